// The skeleton's bare path in Node: ws, better-sqlite3 and libsodium. The same protocol, tables, sealing and durability.
//
// What comes within one turn of the loop goes into one transaction, and is acked after it.
//
//     node server.js PORT ACCOUNTS DATABASE SCHEMA

"use strict";

const fs = require("node:fs");
const http = require("node:http");
const Database = require("better-sqlite3");
const sodium = require("sodium-native");
const { WebSocketServer } = require("ws");

const PAD_BYTES = 256;
const [port, accountsPath, databasePath, schemaPath] = process.argv.slice(2);

const accounts = new Map();
for (const [hash, key] of Object.entries(JSON.parse(fs.readFileSync(accountsPath, "utf8")))) {
  accounts.set(hash, {
    conversation: Buffer.from(hash, "hex").subarray(0, 16),
    publicKey: Buffer.from(key, "hex"),
    seq: 0,
    places: new Set(),
  });
}

const outboxKey = Buffer.alloc(sodium.crypto_aead_xchacha20poly1305_ietf_KEYBYTES);
sodium.randombytes_buf(outboxKey);

const db = new Database(databasePath);
db.pragma("journal_mode = WAL");
db.pragma("synchronous = FULL");
db.exec(fs.readFileSync(schemaPath, "utf8"));
const insertMessage = db.prepare("INSERT INTO message (conversation, seq, minute, sealed) VALUES (?, ?, ?, ?)");
const insertOutbox = db.prepare("INSERT INTO outbox (conversation, seq, sealed) VALUES (?, ?, ?)");

let waiting = [];

const commit = db.transaction((batch) => {
  for (const { account, kept, sealed, forAdmins } of batch) {
    insertMessage.run(account.conversation, kept.seq, kept.at, sealed);
    insertOutbox.run(account.conversation, kept.seq, forAdmins);
  }
});

function flush() {
  const batch = waiting;
  waiting = [];
  commit(batch);
  for (const { kept, done } of batch) done(kept);
}

function accountOf(token) {
  const hash = Buffer.alloc(32);
  sodium.crypto_generichash(hash, Buffer.from(token || ""));
  return accounts.get(hash.toString("hex"));
}

function padded(content) {
  const size = Buffer.byteLength(content);
  const buffer = Buffer.alloc((Math.floor(size / PAD_BYTES) + 1) * PAD_BYTES);
  buffer.write(content);
  sodium.sodium_pad(buffer, size, PAD_BYTES);
  return buffer;
}

function forAdminsOf(account, plain) {
  const nonceBytes = sodium.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
  const all = Buffer.alloc(nonceBytes + plain.length + sodium.crypto_aead_xchacha20poly1305_ietf_ABYTES);
  const nonce = all.subarray(0, nonceBytes);
  sodium.randombytes_buf(nonce);
  const rest = all.subarray(nonceBytes);
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(rest, plain, account.conversation, null, nonce, outboxKey);
  return all;
}

// `done` is called with what is told of the message, once it is on the disk.
function say(account, content, done) {
  const plain = padded(content);
  const sealed = Buffer.alloc(plain.length + sodium.crypto_box_SEALBYTES);
  sodium.crypto_box_seal(sealed, plain, account.publicKey);
  account.seq += 1;
  const kept = { seq: account.seq, author: "visitor", content, at: Math.floor(Date.now() / 60000) };
  if (waiting.length === 0) setImmediate(flush);
  waiting.push({ account, kept, sealed, forAdmins: forAdminsOf(account, plain), done });
}

function tellOthers(account, kept, but) {
  for (const place of account.places) {
    if (place !== but) place.send(JSON.stringify({ type: "message", ...kept }));
  }
}

function answer(response, status, body) {
  const raw = JSON.stringify(body);
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(raw) });
  response.end(raw);
}

const server = http.createServer((request, response) => {
  if (request.method !== "POST" || request.url !== "/api/v1/chat/send") return answer(response, 404, {});
  const account = accountOf((request.headers.authorization || "").replace("Bearer ", ""));
  if (!account) return answer(response, 401, {});
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    say(account, JSON.parse(Buffer.concat(chunks)).message, (kept) => {
      answer(response, 200, { message: kept });
      tellOthers(account, kept);
    });
  });
});

const sockets = new WebSocketServer({ server, path: "/api/v1/ws", perMessageDeflate: false });
sockets.on("connection", (socket) => {
  let account;
  socket.on("message", (raw) => {
    const frame = JSON.parse(raw);
    if (account) {
      say(account, frame.content, (kept) => {
        socket.send(JSON.stringify({ type: "ack", id: frame.id, ...kept }));
        tellOthers(account, kept, socket);
      });
      return;
    }
    account = accountOf(frame.token);
    if (!account) return socket.close(4001);
    account.places.add(socket);
    socket.send(JSON.stringify({ type: "ready" }));
  });
  socket.on("close", () => account && account.places.delete(socket));
});

server.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 }, () => console.log("listening"));
