/** The browser's side of the ports. */
export { browserClock, browserSocket, pageMemory } from "./page";
export { Microphone, type MicrophoneChoice, type Device } from "./microphone";
export { browserMedia } from "./peer";
