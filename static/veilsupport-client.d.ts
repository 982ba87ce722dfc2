// Types of veilsupport-client.js and veilsupport-client.mjs.

/** How far a visitor's message has come; it only ever grows, in this order. */
export type State = "kept" | "handed_over" | "on_device" | "read";

export interface Message {
  /** Counts from 1 within the conversation and gives the order. */
  seq: number;
  /** "user" is the visitor. */
  author: "user" | "admin" | "desk";
  /** An admin's public name; empty for the others. */
  name: string;
  content: string;
  /** To the minute: "2027-01-15T08:00Z". */
  at: string;
  state: State;
  /** "retracted": taken back, and `content` is empty. */
  change: "corrected" | "retracted" | null;
}

export interface User {
  id: string;
  /** Only where it was given just now: the desk does not keep it. */
  email: string | null;
}

export interface Page {
  /** Oldest first. */
  messages: Message[];
  /** Whether there are further ones in the direction that was asked for. */
  more: boolean;
}

export interface Desk {
  /** Whether those who answer can be reached at this moment; messages are kept in any case. */
  open: boolean;
  /** Whether one of them is there. Only with both call the desk open. */
  staffed: boolean;
  /** What visitors are told while nobody is there; null while somebody is. */
  away: string | null;
  /** Whether those who answer keep a copy of what is said that they can open later. Tell your visitors. */
  archived: boolean;
  /** How long an answer usually takes; null while that is not known. */
  answer_minutes: number | null;
  /** A closed one opens again with the next message; null before the first. */
  conversation: "open" | "closed" | "blocked" | null;
}

/** `message` is a sentence for people. */
export interface VeilSupportError extends Error {
  /** As in the API; besides "connection", "no_token", "elsewhere", "protocol". */
  code: string;
  field: string | null;
  /** HTTP's status; 0 when nothing came back, or over the WebSocket. */
  status: number;
  /** Seconds; 0 when the desk named none. */
  retryAfter: number;
  /** With the code "puzzle": what a person has to answer before the same call is made again with a `Solution`. */
  puzzle: { id: string; question: string } | null;
}

/** The answer to an error's `puzzle`. */
export interface Solution {
  id: string;
  answer: string;
}

export interface Connection {
  /** "offline" comes back by itself; "closed" (by disconnect) and "ended" (see `error`) do not. */
  state: "connecting" | "online" | "offline" | "closed" | "ended";
  error: VeilSupportError | null;
}

export interface Events {
  message: Message;
  /** A message that came before reads like this now: show nothing else of it. Repeated after a reconnection. */
  changed: Message;
  /** One of the visitor's own messages has come further; repeated after a reconnection. */
  state: { seq: number; state: State };
  /** On one of their devices the visitor has looked at everything up to `seq`. */
  read: { seq: number };
  /** An admin is writing: show it for some ten seconds, or until a message comes. */
  typing: { name: string };
  desk: Desk;
  connection: Connection;
  /** What concerns no particular call. */
  error: VeilSupportError;
}

export interface Options {
  /** Of an earlier sign-in. */
  token?: string | null;
  /** The browser's own session signs the WebSocket in: on the desk's own pages only. */
  cookie?: boolean;
  /** Where the platform has none, such as Node before 22. */
  WebSocket?: unknown;
  /** To go another way, such as through Tor's SOCKS port. */
  fetch?: typeof fetch;
}

export class VeilSupportClient {
  /** @param apiUrl the desk's address, with its path prefix if it has one */
  constructor(apiUrl: string, options?: Options);
  /** Null when not signed in. Whoever has it reads the conversation. */
  token: string | null;
  register(email: string, password: string, puzzle?: Solution): Promise<User>;
  login(email: string, password: string, puzzle?: Solution): Promise<User>;
  /** A new anonymous visitor. `code`, seven words, is the only way back: show it now. */
  start(puzzle?: Solution): Promise<{ user: User; token: string; code: string }>;
  returnWith(code: string): Promise<User>;
  /** End this session. The conversation stays; what has not been sent is dropped. */
  logout(): Promise<void>;
  /** Burn the account and the whole conversation, on both sides, for ever. */
  deleteAccount(): Promise<void>;
  /** Settles once the message is on the desk's disk; until then it waits and is tried again. */
  sendMessage(text: string): Promise<Message>;
  /** The newest messages, those before a sequence number, or those after one. */
  getHistory(page?: { before?: number; after?: number; limit?: number }): Promise<Page>;
  /** The visitor has looked at everything up to `seq`. */
  markRead(seq: number): Promise<void>;
  /** The visitor is writing at this moment. Once in five seconds is enough. */
  typing(): void;
  /** Go live until disconnect(). `onMessage` gets each message of both sides once, in order. */
  connectWebSocket(onMessage?: (message: Message) => void, from?: { after?: number }): void;
  disconnect(): void;
  on<Name extends keyof Events>(event: Name, listener: (value: Events[Name]) => void): this;
  off<Name extends keyof Events>(event: Name, listener: (value: Events[Name]) => void): this;
}

declare global {
  interface Window {
    VeilSupportClient: typeof VeilSupportClient;
  }
}
