/** Offhook's client library: the phone's state machines and the HTTP side, free of any browser interface. */
export * from "./api";
export { Call, type CallState } from "./call";
export type { ConnectionState } from "./connection";
export * from "./errors";
export { Phone, type PhoneEvents, type PhoneOptions } from "./phone";
export * from "./ports";
export * from "./protocol";
export * from "./quality";
