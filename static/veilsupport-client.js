/**
 * Speaks to a VeilSupport desk, from any page or program. One file, no dependency, nothing stored.
 *
 *     const desk = new VeilSupportClient("http://….onion");
 *     const { code } = await desk.start();               // or login, register, returnWith
 *     desk.connectWebSocket((message) => show(message.author, message.content));
 *     await desk.sendMessage("Is anyone there?");        // settles once the desk has it on its disk
 *
 * As a classic script it sets window.VeilSupportClient; `import` it from veilsupport-client.mjs beside it; in Node
 * `require` it. Types stand in veilsupport-client.d.ts; what goes over the wire is told at <desk>/api.
 *
 * - A message is kept here, and tried again under the same id, until the desk has taken or refused it. It stands in the
 *   conversation once, however often the connection broke. The queue lives as long as this object.
 * - Messages come in their order, none missing and none twice, over any number of reconnections.
 * - The token stays in memory and never in an address. A page that wants it to outlive a reload can read `token` and
 *   give it to the next object; but web storage is on the disk, for whoever has the device to find.
 */
(function (root) {
  "use strict";
  const FIRST_WAIT_MS = 1000; // A new circuit through Tor takes about as long.
  const LONGEST_WAIT_MS = 30_000;
  const ANSWER_MS = 60_000; // For a request, or for a connection to come up, over a slow circuit.
  const QUIET_MS = 45_000; // Then we ask whether anyone is there: a script cannot see a WebSocket's own pings.
  const PONG_MS = 20_000;
  const TEXT_MAX = 8_000; // UTF-16 units: 4,000 characters have no more, and a longer frame would end the connection.

  // Close codes after which coming back by ourselves is of no use; after all others we do.
  const FINAL = {
    4400: ["protocol", "The desk does not understand this client."],
    4401: ["bad_token", "Not signed in any more."],
    4409: ["elsewhere", "This conversation goes on in other windows."],
    4410: ["gone", "This conversation was erased."],
  };

  /** What went wrong: a word for programs (`code`, as in the API) and a sentence for people (`message`). */
  class VeilSupportError extends Error {
    constructor(code, message, more) {
      super(message);
      const known = { name: "VeilSupportError", code, field: null, status: 0, retryAfter: 0, puzzle: null };
      Object.assign(this, known, more);
    }
  }

  /** Whether the very same thing may succeed later. */
  const passes = ({ code, status }) => /^(connection|too_fast|busy|slow|full|unavailable)$/.test(code) || status >= 500;
  const signedOut = () => new VeilSupportError("no_token", "Sign in first.");
  // A browser does not tell a script which of the two it was.
  const unreachable = () => new VeilSupportError("connection", "The desk is out of reach, or does not list this page.");

  /** Half of it is chance, so that not all who were cut off come back at once. */
  const backOffMs = (tries) => Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** tries) * (0.5 + Math.random() / 2);
  /** Names a message until the desk has it: must be new, need not be secret. */
  const newId = () => [1, 2].map(() => Math.random().toString(36).slice(2)).join("");

  /**
   * One WebSocket after another: opens, says hello, notices silence, comes back.
   *
   * `calls`: hello makes the first frame, onFrame gets all that comes, and onChange is told of each new state:
   * "connecting", "online", "offline" (it will come back), "closed" and, with an error, "ended".
   */
  class Line {
    wanted = false;
    #up = false; // the desk has said ready
    #socket = null;
    #tries = 0;
    #retryAfterMs = 0;
    #retryTimer;
    #watchTimer;

    constructor(address, WebSocket, calls) {
      Object.assign(this, { address, WebSocket, calls });
      root.addEventListener?.("online", () => this.check());
      root.document?.addEventListener("visibilitychange", () => root.document.hidden || this.check());
    }

    open() {
      this.wanted = true;
      this.check();
    }

    close(state = "closed", error = null) {
      if (!this.wanted) return;
      this.wanted = false;
      clearTimeout(this.#retryTimer);
      this.#abandon();
      this.calls.onChange(state, error);
    }

    /** The machine may have slept or changed its network: find out now rather than in a minute. */
    check() {
      if (this.wanted && !this.#socket) this.#connect();
      else if (this.#up) this.#ask();
    }

    send(frame) {
      if (this.#up) this.#socket.send(JSON.stringify(frame));
      return this.#up; // false: nothing was sent
    }

    #connect() {
      clearTimeout(this.#retryTimer);
      const socket = new this.WebSocket(this.address);
      this.#socket = socket;
      this.#retryAfterMs = 0;
      socket.onopen = () => socket.send(JSON.stringify(this.calls.hello()));
      socket.onmessage = (event) => socket === this.#socket && this.#hear(JSON.parse(event.data));
      socket.onerror = () => {}; // A close follows; Node's "ws" throws when nobody listens.
      socket.onclose = (event) => socket === this.#socket && this.#drop(event.code);
      this.#watch(ANSWER_MS, () => this.#drop());
      this.calls.onChange("connecting", null);
    }

    #hear(frame) {
      if (frame.type === "ready") [this.#up, this.#tries] = [true, 0];
      if (frame.retry_after && !frame.id) this.#retryAfterMs = frame.retry_after * 1000;
      if (this.#up) this.#watch(QUIET_MS, () => this.#ask());
      this.calls.onFrame(frame);
      if (frame.type === "ready") this.calls.onChange("online", null);
    }

    #ask() {
      this.send({ type: "ping" });
      this.#watch(PONG_MS, () => this.#drop());
    }

    #watch(ms, whenOver) {
      clearTimeout(this.#watchTimer);
      this.#watchTimer = setTimeout(whenOver, ms);
    }

    #drop(code) {
      if (FINAL[code]) return this.close("ended", new VeilSupportError(...FINAL[code]));
      this.#abandon();
      this.#retryTimer = setTimeout(() => this.#connect(), this.#retryAfterMs + backOffMs(this.#tries++));
      this.calls.onChange("offline", null);
    }

    /** Not waiting for the socket's own end, which takes minutes when nobody is there. */
    #abandon() {
      clearTimeout(this.#watchTimer);
      this.#up = false;
      this.#socket?.close();
      this.#socket = null;
    }
  }

  class VeilSupportClient {
    token; // whoever has it reads the conversation; null when not signed in
    #api;
    #fetch;
    #line;
    #byCookie;
    #listeners = { message: [], changed: [], state: [], read: [], typing: [], desk: [], connection: [], error: [] };
    #onMessage;
    #lastSeq = null; // the newest message that the page was given; null: it has not asked for any
    #live = false; // from connectWebSocket() on messages go over the WebSocket, before it over REST
    #waiting = new Set(); // messages that the desk has neither taken nor refused
    #queue = Promise.resolve(); // of their deliveries: one at a time, so that none overtakes another
    #barred = signedOut(); // why nothing can be sent; null when it can
    #inFlight = null; // what #handOver waits for
    #wakeUp = () => {};

    /**
     * @param {string} apiUrl the desk's address, with its path prefix if it has one
     * @param {string} [options.token] of an earlier sign-in
     * @param {boolean} [options.cookie] the browser's own session signs the WebSocket in: on the desk's own pages only
     * @param {typeof WebSocket} [options.WebSocket] where the platform has none (Node before 22)
     * @param {typeof fetch} [options.fetch] to go another way, such as through Tor's SOCKS port
     */
    constructor(apiUrl, { token = null, cookie = false, WebSocket = root.WebSocket, fetch = root.fetch } = {}) {
      const { origin, pathname } = new URL(apiUrl, root.location?.href);
      this.#api = origin + pathname.replace(/(\/api\/v1)?\/*$/, "") + "/api/v1";
      this.#fetch = fetch.bind(root);
      this.token = token;
      this.#byCookie = cookie;
      if (token || cookie) this.#barred = null;
      this.#line = new Line(this.#api.replace(/^http/, "ws") + "/ws", WebSocket, {
        hello: () => this.#hello(),
        onFrame: (frame) => this.#hear(frame),
        onChange: (state, error) => this.#changed(state, error),
      });
    }

    /** A new account. @returns {Promise<{id: string, email: string}>} */
    async register(email, password, puzzle) {
      return (await this.#signIn("register", { email, password, puzzle }, 0)).user;
    }

    /** @returns {Promise<{id: string, email: string}>} */
    async login(email, password, puzzle) {
      return (await this.#signIn("login", { email, password, puzzle }, null)).user;
    }

    /**
     * A new anonymous visitor. `code`, seven words, is the only way back: show it now. When it fails with the code
     * "puzzle", ask the person `error.puzzle.question` and call again with `{ id: error.puzzle.id, answer }`.
     */
    start(puzzle) {
      return this.#signIn("anonymous", { puzzle }, 0);
    }

    /** Come back with the seven words. */
    async returnWith(code) {
      return (await this.#signIn("return", { code }, null)).user;
    }

    /** End this session. The conversation stays; what has not been sent is dropped. */
    logout() {
      return this.#leave("POST", "/auth/logout");
    }

    /** Burn the account and the whole conversation, on both sides, for ever. */
    deleteAccount() {
      return this.#leave("DELETE", "/account");
    }

    /**
     * Settles with the message as it stands in the conversation, once it is on the desk's disk. Until then it waits; it
     * rejects only when the desk refuses it or nobody is signed in any more.
     */
    sendMessage(text) {
      return new Promise((resolve, reject) => {
        if (this.#barred) throw this.#barred;
        if (text.length > TEXT_MAX) throw new VeilSupportError("too_long", "This is too long.");
        const whole = text.replace(/\p{Surrogate}/gu, "\ufffd"); // Half an emoji is no text; JSON refuses it.
        const entry = { id: newId(), text: whole, resolve, reject };
        this.#waiting.add(entry);
        this.#queue = this.#queue.then(() => this.#deliver(entry));
      });
    }

    /** The newest messages, those before a sequence number or after one. connectWebSocket() goes on from them. */
    async getHistory({ before, after, limit } = {}) {
      const given = Object.entries({ before, after, limit }).filter(([, value]) => value !== undefined);
      const page = await this.#request("GET", `/chat/history?${new URLSearchParams(given)}`);
      const newest = page.messages.at(-1)?.seq ?? 0;
      if (!this.#live && before === undefined) this.#lastSeq = Math.max(this.#lastSeq ?? 0, newest);
      return page;
    }

    /** The visitor has looked at everything up to `seq`; their other devices are told. */
    async markRead(seq) {
      if (!this.#line.send({ type: "read", seq }) && this.token) await this.#request("POST", "/chat/read", { seq });
    }

    /** The visitor is writing at this moment. Once in five seconds is enough. */
    typing() {
      this.#line.send({ type: "typing" });
    }

    /**
     * Go live until disconnect(), over every loss of the connection. `onMessage` gets each message of both sides once,
     * in order: after `after`, or the last that getHistory() gave; of a new visitor all; else those from now on.
     */
    connectWebSocket(onMessage = () => {}, { after = this.#lastSeq } = {}) {
      if (!this.token && !this.#byCookie) throw signedOut();
      this.#lastSeq = after;
      this.#barred = null;
      this.off("message", this.#onMessage).on("message", onMessage);
      this.#onMessage = onMessage;
      this.#live = true;
      this.#line.open();
    }

    /** End the live connection. Messages that are not sent yet wait for the next connectWebSocket(). */
    disconnect() {
      this.#line.close();
    }

    /** Be told of "message", "changed", "state", "read", "typing", "desk", "connection", "error": see the .d.ts. */
    on(event, listener) {
      this.#listeners[event].push(listener);
      return this;
    }

    off(event, listener) {
      this.#listeners[event] = this.#listeners[event].filter((each) => each !== listener);
      return this;
    }

    /** Each by itself: a mistake in the page's own function shows as the page's, and does not stop us. */
    #emit(event, value) {
      for (const listener of this.#listeners[event]) queueMicrotask(() => listener(value));
    }

    #hello() {
      const whose = this.#byCookie ? { cookie: true } : { token: this.token };
      return { type: "auth", ...whose, ...(this.#lastSeq !== null && { after: this.#lastSeq }) };
    }

    #hear({ type, ...frame }) {
      if (type === "ready") this.#ready(frame);
      else if (type === "message") this.#received(frame);
      else if (type === "ack") this.#acknowledged(frame);
      else if (type === "error") this.#refused(frame);
      else if (type in this.#listeners) this.#emit(type, frame);
    }

    #ready({ last_seq, read_seq, states, desk }) {
      this.#lastSeq ??= last_seq;
      this.#emit("desk", desk);
      this.#emit("read", { seq: read_seq });
      for (const each of states) this.#emit("state", each); // Some were told before, some were missed.
    }

    #received(message) {
      if (message.seq <= this.#lastSeq) return;
      this.#lastSeq = message.seq;
      this.#emit("message", message);
    }

    #acknowledged({ id, ...message }) {
      this.#received(message);
      if (id === this.#inFlight?.id) this.#inFlight.resolve(message);
    }

    #refused({ error: { code, message, field }, id, retry_after }) {
      const error = new VeilSupportError(code, message, { field, retryAfter: retry_after ?? 0 });
      const unread = code === "malformed" && !id; // the desk could not read the frame, nor the id in it
      if (this.#inFlight && (unread || id === this.#inFlight.id)) this.#inFlight.reject(error);
      else this.#emit("error", error);
    }

    #changed(state, error) {
      if (state !== "online") this.#inFlight?.reject(error ?? unreachable());
      if (error) this.#giveUp(this.#waiting, error);
      this.#barred = error;
      this.#wakeUp();
      this.#emit("connection", { state, error });
    }

    /** Try until the desk has taken or refused it, or it is not to be sent any more. */
    async #deliver(entry) {
      for (let tries = 0; this.#waiting.has(entry); tries++) {
        try {
          entry.resolve(await this.#handOver(entry));
          this.#waiting.delete(entry);
        } catch (error) {
          if (!passes(error)) this.#giveUp([entry], error);
          else if (this.#waiting.has(entry)) await this.#pause(error, tries);
        }
      }
    }

    async #handOver({ id, text }) {
      if (!this.#live) return (await this.#request("POST", "/chat/send", { message: text, id })).message;
      return new Promise((resolve, reject) => {
        this.#inFlight = { id, resolve, reject };
        if (!this.#line.send({ type: "message", content: text, id })) reject(unreachable());
      }).finally(() => (this.#inFlight = null));
    }

    /** Until another try makes sense: some time; or, without a line, until something has changed about it. */
    #pause(error, tries) {
      return new Promise((resolve) => {
        this.#wakeUp = resolve;
        if (this.#live && error.code === "connection") return;
        setTimeout(resolve, error.retryAfter * 1000 || backOffMs(tries));
      });
    }

    #giveUp(entries, error) {
      for (const entry of entries) if (this.#waiting.delete(entry)) entry.reject(error);
      this.#wakeUp();
    }

    async #signIn(way, body, lastSeq) {
      const signed = await this.#request("POST", `/auth/${way}`, body, { signedIn: false });
      this.#forget();
      this.token = signed.token;
      this.#lastSeq = lastSeq;
      this.#barred = null;
      return signed;
    }

    async #leave(method, path) {
      this.#line.close(); // Else the desk ends it, and it would look like somebody else's doing.
      await this.#request(method, path);
      this.#forget();
    }

    #forget() {
      this.#line.close();
      this.#giveUp(this.#waiting, signedOut());
      this.token = this.#lastSeq = null;
      this.#barred = signedOut();
      this.#live = false;
    }

    async #request(method, path, body, { signedIn = true } = {}) {
      if (signedIn && !this.token) throw signedOut();
      const kind = body && { "content-type": "application/json" };
      const headers = { ...kind, ...(signedIn && { authorization: `Bearer ${this.token}` }) };
      const request = { method, headers, body: body && JSON.stringify(body), credentials: "omit", cache: "no-store" };
      let response, answer;
      try {
        response = await this.#fetch(this.#api + path, { ...request, signal: AbortSignal.timeout(ANSWER_MS) });
        answer = response.status === 204 ? null : await response.json();
      } catch {
        throw unreachable();
      }
      if (response.ok) return answer;
      const { code = "broken", message = "The desk is out of order.", field = null } = answer.error ?? {};
      const retryAfter = Number(response.headers.get("retry-after"));
      const { puzzle = null } = answer;
      throw new VeilSupportError(code, message, { field, status: response.status, retryAfter, puzzle });
    }
  }

  if (typeof module === "object" && module.exports) module.exports = { VeilSupportClient };
  else root.VeilSupportClient = VeilSupportClient;
})(globalThis);
