/** The version of the protocol. */
export declare const PROTOCOL: 1;

/** Why a connection is closed. From the server, `normal` and 4400 to 4499 are final. */
export declare const CLOSE: Readonly<{
  normal: 1000;
  failed: 1011;
  restart: 1012;
  tryAgain: 1013;
  timeout: 4008;
  protocol: 4400;
  superseded: 4409;
}>;

/** Names that events of an application cannot have. */
export declare const RESERVED: readonly string[];

export type State = "connecting" | "joining" | "ready" | "waiting" | "superseded" | "closed";

/** What is missing or `undefined` is as by default. */
export interface Options {
  /** What the token is kept as: `resurge:<name>`. Each session of a page needs one of its own. `"live"` by default. */
  name?: string;
  /** Where the token is kept; `"session"` by default, memory where that does not work. `"local"` is read by every tab and every script. */
  storage?: "session" | "memory" | "local" | Pick<Storage, "getItem" | "setItem" | "removeItem">;
  /** The parameters of a join, asked for each time. If they cannot be had, or put into JSON, it is tried again later. */
  join?: () => object | undefined | Promise<object | undefined>;
  /** How long a connection may take until it is joined, in ms; 10,000 by default. The server's grace time must be longer than two of it and 5 s. */
  joinTimeout?: number;
  /** How long a connection must be joined until earlier failures are forgotten, in ms; 5,000 by default. */
  stableAfter?: number;
  /**
   * The wait after the nth failure is random, up to `initial * factor ** (n - 1)` ms and `max`; 250, 2 and 30,000 by default.
   * Never longer than 5,000 after a token was shown and not answered.
   */
  backoff?: { initial?: number; factor?: number; max?: number };
  /** After how many failures in a row it gives up; never, by default. */
  maxAttempts?: number;
  /** Asks after so many ms of silence whether the server is there, and waits so long for it; 25,000 and 10,000 by default. 0: never asks. */
  heartbeat?: { every?: number; timeout?: number };
  /** What stands in for the global object: `WebSocket`, timers, `Math`, storage, events. For tests. */
  window?: object;
}

export interface StateChange {
  state: State;
  previous: State;
  /** Why, where a connection ended. */
  code?: number;
  /** While `waiting`: until the next attempt, in ms. */
  delay?: number;
  /** While `waiting`: failures since a connection was stable. */
  failures?: number;
}

export interface Joined<S = unknown> {
  status: "recovered" | "fresh";
  /** What the server shows of the state. */
  state: S;
  /** A token was shown, and its session is lost. */
  lost: boolean;
}

/** An event of the application comes under its own name, with its payload as `detail`. */
export interface LiveEvent<T = unknown> extends Event {
  readonly detail: T;
}

export declare class RecoverableSocket<S = unknown> extends EventTarget {
  /** `url` may be relative to the page; `http:` and `https:` become `ws:` and `wss:`. Throws where it is none. */
  constructor(url: string | URL, options?: Options);

  readonly state: State;

  /** Connects, now, and from now on again and again. Does nothing where it is connected or about to be. */
  connect(): void;

  /**
   * Hands a message to the connection, or throws an `InvalidStateError` when it is not `ready`: nothing is kept for later.
   * What the server did not answer before the connection broke has an unknown outcome.
   */
  send(event: string, payload?: unknown): void;

  /** Disconnects. The token stays: `connect`, or the page when it is loaded again, comes back to the session. */
  close(): void;

  /** Ends the session and forgets its token. Returns whether the server was told; if not, the session ends by its idle time. */
  leave(): boolean;

  addEventListener(type: "state", listener: (event: LiveEvent<StateChange>) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: "joined", listener: (event: LiveEvent<Joined<S>>) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: (event: LiveEvent<any>) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
}
