/**
 * The conversation's page, with scripts: one WebSocket in the place of the two frames.
 *
 * Without it the page is whole: a frame that streams the messages, and one to write in. This script first connects.
 * Once the desk has said that it is ready, it puts the messages (from /chat/latest) and a box of its own where the
 * frames were, and moves over what was being written. If it cannot connect, the frames stay. All markup and all words
 * come from the page's templates; nothing that people wrote is ever parsed here.
 *
 * What is being written survives lost connections and refused messages, but not a reload: browsers write whatever
 * would survive one, such as sessionStorage, onto their disk. So leaving the page with unsent words is asked about.
 */
(function () {
  "use strict";

  const STATES = ["kept", "handed_over", "on_device", "read"];
  const TYPING_MS = 10_000;
  const TELL_TYPING_MS = 5_000;
  const ROWS_MAX = 6;

  const find = (css, within = document) => within.querySelector(css);
  const live = find("#live");
  const samples = find("#samples").content;
  const words = (name) => find(`#say-${name}`, samples).textContent;
  const stateWords = Array.from(samples.querySelectorAll(".visitor .state span"), (each) => each.textContent);
  const wordsOf = (state) => stateWords[STATES.indexOf(state)];

  const root = live.dataset.root;
  const title = document.title;
  const view = live.content.firstElementChild;
  const composer = view.nextElementSibling;
  const box = find("textarea", composer);
  const frames = { view: find("iframe[name=view]"), composer: find("iframe[name=composer]") };
  const pending = document.createElement("div"); // below the log, which is read out: each message once
  const client = new window.VeilSupportClient(location.origin + root, { cookie: true });

  let log; // what the messages stand in, once it is here
  let lines; // the sentences about those who answer
  let standing; // of the conversation: "open", "closed", "blocked"
  let newest = 0;
  let markedRead = 0;
  let unread = 0;
  let over = false;
  let frameIsSending = false;
  let typingTimer;
  let toldTypingAt = 0;

  // ---- taking over from the frames ----

  /** The newest messages, and the sequence number of the last one. */
  async function loadLog() {
    const answer = await fetch(`${root}/chat/latest`, { cache: "no-store" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    [log, lines] = [find(".log", page), find(".lines", page)];
    view.append(document.adoptNode(lines), document.adoptNode(find(".scroll", page)));
    const last = Array.from(log.querySelectorAll(".m")).at(-1);
    return last ? Number(last.id.slice(1)) : 0;
  }

  /** The frame's document is another one after each of its loads. */
  function watchFrame() {
    frameIsSending = false;
    frames.composer.contentDocument?.addEventListener("submit", () => (frameIsSending = true));
  }

  function takeOver() {
    if (view.isConnected) return;
    if (frameIsSending) {
      frames.composer.addEventListener("load", takeOver, { once: true }); // With the frame its answer would be lost.
      return;
    }
    const isWriting = [document.body, frames.composer].includes(document.activeElement);
    box.value = frames.composer.contentDocument?.querySelector("#m")?.value ?? "";
    frames.view.replaceWith(view);
    frames.composer.replaceWith(composer);
    fitBox();
    if (isWriting) box.focus();
    seen();
  }

  // ---- messages ----

  function at(time) {
    const [day, hour] = time.slice(0, -1).split("T");
    if (day === new Date().toISOString().slice(0, 10)) return `${hour} UTC`;
    const options = { timeZone: "UTC", day: "numeric", month: "short", year: "numeric" };
    return `${new Date(time).toLocaleDateString("en-GB", options)}, ${hour} UTC`;
  }

  /** A message in the markup of the page's own template. */
  function bubble({ seq, author, name, content, at: time, state, change }) {
    const kind = author === "user" ? "visitor" : author;
    const node = document.importNode(find(`.${kind}`, samples), true);
    node.id = seq ? `m${seq}` : "";
    const body = find(".body", node);
    body.textContent = change === "retracted" ? words("removed") : content;
    body.classList.toggle("removed", change === "retracted");
    if (name) find(".by b", node).textContent = name;
    find("time", node).dateTime = time ?? "";
    find("time", node).textContent = time ? at(time) : "";
    if (change === "corrected") find("time", node).after(" ", edited());
    if (kind === "visitor") find(".state span", node).textContent = state ? wordsOf(state) : words("sending");
    return node;
  }

  function edited() {
    const mark = document.createElement("span");
    mark.className = "edited";
    mark.textContent = words("edited");
    return mark;
  }

  function showMessage(message) {
    log.append(bubble(message), "\n");
    newest = message.seq;
    if (message.author === "user") return;
    showTyping("");
    if (document.hidden) unread += 1;
    seen();
  }

  /** In the place of its earlier form; told again after each reconnection, when it may be the same. */
  function showChange(message) {
    const [before, after] = [find(`#m${message.seq}`, log), bubble(message)];
    if (before && find(".body", before).outerHTML !== find(".body", after).outerHTML) before.replaceWith(after);
  }

  /** A state only ever grows; those of messages that are not on the page say nothing here. */
  function showState({ seq, state }) {
    const shown = find(`#m${seq} .state span`, log);
    if (!shown || STATES.indexOf(state) <= stateWords.indexOf(shown.textContent)) return;
    shown.textContent = wordsOf(state);
    if (state === "read") log.append(document.importNode(find(".unseen", samples), true));
  }

  function showDesk(desk) {
    const away = find(".away span", lines);
    if (desk.away && desk.away !== away.textContent) away.textContent = desk.away;
    find(".archived", lines).hidden = !desk.archived;
    lines.className = `lines is-${desk.staffed ? (desk.open ? "open" : "down") : "away"}`;
    if (standing && desk.conversation !== standing) {
      log.append(document.importNode(find(`[data-standing=${desk.conversation}]`, samples), true));
    }
    standing = desk.conversation;
  }

  function tellTyping() {
    if (Date.now() - toldTypingAt < TELL_TYPING_MS) return;
    toldTypingAt = Date.now();
    client.typing();
  }

  function showTyping(name) {
    clearTimeout(typingTimer);
    find("#typing", composer).textContent = name && `${name} ${words("writing")}`;
    if (name) typingTimer = setTimeout(showTyping, TYPING_MS, "");
  }

  // ---- what has been looked at ----

  /** The title counts what came while nobody looked. */
  function seen() {
    if (!document.hidden) {
      unread = 0;
      if (newest > markedRead) client.markRead((markedRead = newest));
    }
    document.title = unread ? `(${unread}) ${title}` : title;
  }

  /** On another device, or in another tab. */
  function seenElsewhere({ seq }) {
    markedRead = Math.max(markedRead, seq);
    if (seq >= newest) unread = 0;
    seen();
  }

  // ---- the connection ----

  function showConnection({ state, error }) {
    if (state === "online") takeOver();
    const notice = find(".error", view);
    const say = state === "ended" ? error.code : state === "offline" ? "offline" : "";
    notice.hidden = !say;
    if (say) find("span", notice).textContent = words(say);
    find("button", notice).hidden = say !== "elsewhere";
    if (say === "bad_token" || say === "gone") end();
  }

  /** Nothing of the conversation stays on the screen; unsent words can still be copied. */
  function end() {
    over = true;
    box.readOnly = true;
    log.replaceChildren();
    pending.replaceChildren();
  }

  function connect() {
    client.disconnect();
    client.connectWebSocket(showMessage);
  }

  // ---- writing ----

  /** Nothing that was written is lost: refused words go back into the box. */
  function send() {
    const text = box.value;
    if (!text.trim() || over) return;
    const waiting = bubble({ author: "user", content: text });
    pending.append(waiting);
    showTrouble("");
    box.value = "";
    fitBox();
    client
      .sendMessage(text)
      .catch((error) => {
        box.value = box.value ? `${text}\n${box.value}` : text;
        fitBox();
        showTrouble(error.message);
      })
      .finally(() => waiting.remove());
  }

  function showTrouble(sentence) {
    const trouble = find(".error", composer);
    trouble.textContent = sentence;
    trouble.hidden = !sentence;
  }

  function fitBox() {
    box.rows = Math.min(ROWS_MAX, box.value.split("\n").length);
  }

  function sendOnEnter(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  }

  function askBeforeLeaving(event) {
    if (!over && (box.value.trim() || pending.hasChildNodes())) event.preventDefault();
  }

  /** "I have kept them", without loading the page anew. */
  async function keepCode(event) {
    event.preventDefault();
    const form = event.target;
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    if (answer.ok) form.closest("section").remove();
    else form.submit();
  }

  // ---- all of it ----

  async function begin() {
    watchFrame();
    frames.composer.addEventListener("load", watchFrame);
    newest = await loadLog();
    pending.className = "log waiting";
    log.before(pending); // the scrolling box shows its children from the bottom up
    client.on("state", showState).on("desk", showDesk).on("read", seenElsewhere).on("connection", showConnection);
    client.on("changed", showChange).on("typing", ({ name }) => showTyping(name));
    client.connectWebSocket(showMessage, { after: newest });
    document.addEventListener("visibilitychange", seen);
    window.addEventListener("beforeunload", askBeforeLeaving);
    box.addEventListener("input", fitBox);
    box.addEventListener("input", tellTyping);
    box.addEventListener("keydown", sendOnEnter);
    find("form", composer).addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    find(".error button", view).addEventListener("click", connect);
    find("a[target=view]").addEventListener("click", (event) => {
      if (!view.isConnected) return;
      event.preventDefault();
      connect();
    });
    find(".code form")?.addEventListener("submit", keepCode);
  }

  begin().catch(() => {}); // Then the frames stay.
})();
