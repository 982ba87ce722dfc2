"use client";

import { useState } from "react";
import { type Message, VeilSupportClient } from "./veilsupport-client"; // the two files of the desk's /static/

const desk = new VeilSupportClient(process.env.NEXT_PUBLIC_VEILSUPPORT!);

export default function Support() {
  const [code, setCode] = useState("");
  const [messages, setMessages] = useState<Message[]>([]);
  async function send(form: FormData) {
    if (!desk.token) {
      setCode((await desk.start()).code);
      desk.connectWebSocket((message) => setMessages((earlier) => [...earlier, message]));
    }
    await desk.sendMessage(String(form.get("message")));
  }
  return (
    <form action={send}>
      <p id="code">{code}</p>
      <ol>{messages.map((each) => <li key={each.seq}>{each.content}</li>)}</ol>
      <input name="message" maxLength={4000} required aria-label="Your message" /> <button>Send</button>
    </form>
  );
}
