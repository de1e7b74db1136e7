/** Clock, WebSocket and local storage behind the ports. */
import type { Clock, Memory, OpenSocket, Remembered } from "../ports";

export const browserClock: Clock = {
  now: () => Date.now(),
  after: (ms, run) => {
    const id = setTimeout(run, ms);
    return () => clearTimeout(id);
  },
};

export const browserSocket: OpenSocket = (url, events) => {
  const socket = new WebSocket(url);
  let open = true;
  socket.onopen = () => open && events.opened();
  socket.onmessage = (message) => open && typeof message.data === "string" && events.message(message.data);
  socket.onclose = (close) => {
    if (open) events.closed(close.code);
    open = false;
  };
  return {
    send: (text) => socket.readyState === WebSocket.OPEN && socket.send(text),
    close: (code) => {
      open = false;
      // Only 1000 and 3000 to 4999 may be given by a page.
      socket.close(code);
    },
  };
};

/** Kept per signed-in user, so that another user's session is never resumed. */
export function pageMemory(key: string): Memory {
  return {
    load: () => {
      try {
        const text = localStorage.getItem(key);
        return text === null ? null : (JSON.parse(text) as Remembered);
      } catch {
        return null;
      }
    },
    save: (remembered) => {
      try {
        localStorage.setItem(key, JSON.stringify(remembered));
      } catch {
        // Storage is full or forbidden: a reload will then start anew.
      }
    },
  };
}
