/**
 * Runs under Node (18 or newer) for tests/live/node.py: loads the SDK as a program does, and evaluates what it is given.
 *
 * In: one JSON object a line, {script}. Out: one a line, {value} or {error}. `Socket` is the least WebSocket client that the SDK
 * needs, because Node has none of its own before 22: text frames, a close code, no more (RFC 6455 §5.2).
 */
"use strict";

const http = require("node:http");
const readline = require("node:readline");
const { randomBytes } = require("node:crypto");

const [TEXT, CLOSE, PING, PONG] = [1, 8, 9, 10];

globalThis.Socket = class Socket {
  constructor(address) {
    const headers = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13" };
    headers["sec-websocket-key"] = randomBytes(16).toString("base64");
    this.request = http.get(address.replace(/^ws/, "http"), { headers });
    this.request.on("response", () => this.end(1006));
    this.request.on("error", () => this.end(1006));
    this.request.on("upgrade", (_answer, stream, head) => {
      this.stream = stream;
      this.bytes = head;
      stream.on("data", (more) => this.read(Buffer.concat([this.bytes, more])));
      stream.on("close", () => this.end(1006));
      stream.on("error", () => {});
      this.onopen();
      this.read(this.bytes);
    });
  }

  send(text) {
    this.write(TEXT, Buffer.from(text));
  }

  close() {
    if (this.stream) this.write(CLOSE, Buffer.from([1000 >> 8, 1000 & 255]));
    else this.request.destroy();
  }

  write(kind, body) {
    const head = Buffer.alloc(8);
    head.writeUInt8(0x80 | kind, 0);
    head.writeUInt8(0x80 | 126, 1); // Masked, with a length of two bytes; the mask is all zeros.
    head.writeUInt16BE(body.length, 2);
    this.stream.write(Buffer.concat([head, body]));
  }

  read(bytes) {
    this.bytes = bytes;
    while (bytes.length >= 2) {
      const short = bytes[1] & 127;
      const start = short === 126 ? 4 : short === 127 ? 10 : 2;
      if (bytes.length < start) break;
      const length = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short;
      if (bytes.length < start + length) break;
      this.hear(bytes[0] & 15, bytes.subarray(start, start + length));
      this.bytes = bytes = bytes.subarray(start + length);
    }
  }

  hear(kind, body) {
    if (kind === TEXT) this.onmessage({ data: body.toString() });
    else if (kind === PING) this.write(PONG, body);
    else if (kind === CLOSE) {
      this.end(body.length >= 2 ? body.readUInt16BE(0) : 1005);
      this.stream.end();
    }
  }

  end(code) {
    if (this.ended) return;
    this.ended = true;
    this.onclose({ code });
  }
};

globalThis.VeilSupportClient = require("../../static/veilsupport-client.js").VeilSupportClient;

const { setTimeout, clearTimeout } = globalThis; // A test may put its own in their place.

function evaluated(script) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error("took too long")), 60_000)));
  return Promise.race([(0, eval)(script), late]).finally(() => clearTimeout(timer));
}

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  let told;
  try {
    told = { value: await evaluated(JSON.parse(line).script) };
  } catch (error) {
    told = { error: `${error.name}: ${error.message} (${error.code})` };
  }
  process.stdout.write(JSON.stringify(told) + "\n");
});
