/** What this browser remembers for its user. */
import type { MicrophoneChoice } from "@offhook/client/browser";

export type Appearance = "auto" | "light" | "dark";

export interface Preferences {
  microphone: MicrophoneChoice;
  appearance: Appearance;
}

const KEY = "offhook.preferences";
const DEFAULTS: Preferences = { microphone: { label: null, processing: true }, appearance: "auto" };

export function loadPreferences(): Preferences {
  const kept = read<Partial<Preferences>>(KEY);
  return { ...DEFAULTS, ...kept, microphone: { ...DEFAULTS.microphone, ...kept?.microphone } };
}

export function savePreferences(preferences: Preferences): void {
  write(KEY, preferences);
}

export function applyAppearance(appearance: Appearance): void {
  if (appearance === "auto") delete document.documentElement.dataset["appearance"];
  else document.documentElement.dataset["appearance"] = appearance;
}

export function read<T>(key: string): T | null {
  try {
    const text = localStorage.getItem(key);
    return text === null ? null : (JSON.parse(text) as T);
  } catch {
    return null;
  }
}

export function write(key: string, value: unknown): void {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Private windows may forbid storage; the page then forgets at the next load.
  }
}
