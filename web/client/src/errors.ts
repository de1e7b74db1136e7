/** The ways in which an order to the phone can fail; each carries a word that the page's dictionary knows. */
import type { CommandFailure, HangupCause } from "./protocol";

/** call-control answered, and refused. */
export class CommandError extends Error {
  readonly code: string;
  readonly cause_word: HangupCause | null;
  constructor(failure: CommandFailure) {
    super(failure.message);
    this.name = "CommandError";
    this.code = failure.code;
    this.cause_word = failure.cause ?? null;
  }
}

/** There was no answer: the connection is away or went away meanwhile. */
export class ConnectionLostError extends Error {
  constructor() {
    super("the connection to the server is lost");
    this.name = "ConnectionLostError";
  }
}

export type MicrophoneProblem = "refused" | "missing" | "busy" | "insecure" | "failed";

export class MicrophoneError extends Error {
  readonly problem: MicrophoneProblem;
  constructor(problem: MicrophoneProblem, message: string) {
    super(message);
    this.name = "MicrophoneError";
    this.problem = problem;
  }
}

/** The sign-in is over: only a new one helps. Thrown by `Tokens.get`. */
export class SignedOutError extends Error {
  constructor() {
    super("signed out");
    this.name = "SignedOutError";
  }
}
