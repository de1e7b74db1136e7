/** Every text of the page. A translation is another object of this shape. */
import type { HangupCause, MicrophoneProblem, RecordingMode } from "@offhook/client";

export const texts = {
  product: "Offhook",

  sign_in: {
    title: "Sign in",
    login: "User name",
    password: "Password",
    submit: "Sign in",
    dev: "One click, for this trial only",
    dev_user: (name: string, extension: string | null) =>
      extension === null ? `Sign in as ${name}` : `Sign in as ${name} (${extension})`,
    wrong: "The user name or the password is wrong.",
    too_many: "Too many attempts. Wait a minute, then try again.",
    unreachable: "The server cannot be reached. Check the network and try again.",
    expired: "Your sign-in has expired. Please sign in again.",
    out: "Sign out",
  },

  other_tab: {
    title: "The phone is active in another tab",
    text: "Calls ring there. Close that tab, or move the phone here. A call that is running moves with it.",
    use_here: "Use the phone here",
  },

  connection: {
    label: "Connection",
    offline: "Offline",
    connecting: "Connecting…",
    ready: "Connected",
    reconnecting: "Connection lost. Reconnecting…",
    reconnecting_call: "The connection to the server is lost. Your call goes on, reconnecting…",
    failed: "Signed out",
    refused: (why: string) => `The server does not accept this phone at the moment: ${why}`,
    refusals: {
      hello_timeout: "this page was too slow to say hello. Check the network.",
      invalid: "this page is older than the server. Reload it.",
      limit_reached: "too many requests came, or too many pages are open. Close one, or wait a minute.",
      unauthorized: "the sign-in is no longer valid. Sign in again.",
      unavailable: "it cannot do that now. Try again in a few minutes.",
      not_found: "your account is gone. Ask your administrator.",
    } as Record<string, string>,
  },

  dial: {
    title: "Phone",
    number: "Number or extension",
    hint: "101, *43 or +49 30 1234567",
    call: "Call",
    erase: "Delete last digit",
    keypad: "Dial pad",
    key: (key: string) => ({ "*": "Star", "#": "Hash" })[key] ?? key,
    no_emergency:
      "Emergency numbers such as 112 and 911 cannot be called from this phone. Keep another telephone at hand.",
    no_outbound: "Calls to telephone numbers are not set up. Extensions and *43 work.",
  },

  call: {
    incoming: "Incoming call",
    incoming_from: (who: string) => `Incoming call from ${who}`,
    active: (who: string) => `Call with ${who}`,
    others: "Other calls",
    answer: "Answer",
    reject: "Decline",
    hangup: "Hang up",
    cancel: "Cancel call",
    mute: "Mute",
    unmute: "Unmute",
    hold: "Hold",
    resume: "Resume",
    keypad: "Keypad",
    record: "Record",
    stop_recording: "Stop recording",
    bring_here: "Take the call here",
    switch_to: (who: string) => `Switch to ${who}`,
    unknown: "Unknown number",
    echo: "Echo test",
    timer: "Duration",
    level: "Microphone level",
    digits_sent: "Digits sent",
    digits_received: (who: string) => `Keys pressed by ${who}:`,
    other_muted: (who: string) => `${who} is muted`,
    states: {
      new: "Calling…",
      incoming: "Ringing",
      ringing: "Ringing…",
      early: "Connecting through the telephone network…",
      connecting: "Connecting the sound…",
      active: "Connected",
      held: "On hold",
      on_hold: "You are on hold",
      reconnecting: "The sound is interrupted. Reconnecting…",
      elsewhere: "On another device",
      ending: "Ending…",
      ended: "Ended",
    },
    taken: "The call was taken on another device.",
    again: "Call again",
    dismiss: "Close",
    failed: "That did not work. Try again.",
    not_now: "The connection to the server is lost. Try again in a moment.",
  },

  recording: {
    on: "This call is being recorded",
    starting: "Recording starts after the notice…",
    stopping: "Recording is being finished…",
    failed: "Recording has stopped",
    failed_because: (reason: string) => `Recording has stopped: ${reason}`,
    title: "Recording",
    play: "Play recording",
    loading: "Loading the recording…",
    unavailable: "The recording cannot be loaded at the moment.",
    not_ready: "The recording is still being written.",
    failed_row: (reason: string | null) => (reason === null ? "Not recorded." : `Not recorded: ${reason}`),
    reasons: {
      no_media_room: "the call has no sound on the server yet",
      no_recorder: "no recorder is running. Tell your administrator",
      stopped_early: "it was stopped before it began",
      call_ended_early: "the call ended before it began",
      media_server_lost: "the server that carried the sound failed",
      announcer_failed: "the notice or the beep could not be played to everybody",
      recorder_gone: "the recorder was away for too long",
      node_unreachable: "the recorder or the media server cannot be reached",
      restarted: "the server was restarted before it began",
    } as Record<string, string>,
    left: (who: string) => `Left: ${who}`,
    right: (who: string) => `Right: ${who}`,
    waveform: "Loudness of both sides over time",
    segments: (count: number, gap: string) =>
      count === 2 ? `Interrupted once (${gap} missing)` : `Interrupted ${count - 1} times (${gap} missing)`,
    consent: (beeps: number) =>
      beeps === 1 ? "Notice played, then 1 beep" : `Notice played, then ${beeps} beeps`,
  },

  quality: {
    label: "Sound quality",
    good: "Good",
    fair: "Fair",
    poor: "Poor",
    lost: "Lost",
    measuring: "Measuring…",
    reasons: {
      none: "",
      nothing_arrives: "Nothing arrives from the other side.",
      loss_in: "Sound from the other side is lost on the way.",
      loss_out: "Your sound is lost on the way.",
      delay: "The sound is delayed.",
      jitter: "The network is unsteady.",
    },
    figures: (mos: string, rtt: string, loss: string) => `Score ${mos}, round trip ${rtt}, loss ${loss}`,
  },

  history: {
    title: "History",
    empty: "No calls yet.",
    more: "Show older calls",
    refresh: "Refresh",
    failed: "The history cannot be loaded at the moment.",
    call_back: (who: string) => `Call ${who}`,
    outgoing: "Outgoing",
    incoming: "Incoming",
    missed: "Missed",
    running: "In progress",
    today: "Today",
    yesterday: "Yesterday",
  },

  settings: {
    title: "Settings",
    open: "Settings",
    close: "Close settings",
    microphone: "Microphone",
    system_default: "System default",
    test: "Test microphone",
    stop_test: "Stop test",
    processing: "Clean up my voice",
    processing_hint: "Removes echo and noise. Switch off for music or for measurements.",
    recording: "Recording",
    recording_modes: {
      off: "Off",
      on_demand: "When I press Record",
      on_answer: "Every answered call",
    } satisfies Record<RecordingMode, string>,
    recording_admin: "Set by an administrator.",
    recording_failed: "The recording setting could not be changed.",
    appearance: "Appearance",
    appearances: { auto: "As the system", light: "Light", dark: "Dark" },
  },

  sound: {
    blocked: "Your browser holds the sound back. Press the button to hear it.",
    allow: "Turn the sound on",
  },

  microphone: {
    refused:
      "This page may not use the microphone. Allow it in the browser's site settings (the symbol beside the address), then try again.",
    missing: "No microphone was found. Plug one in, then try again.",
    busy: "The microphone is used by another program. Close that program, then try again.",
    insecure: "Browsers give the microphone only to pages served over HTTPS, or from this computer itself.",
    failed: "The microphone could not be opened. Try again, or choose another one in the settings.",
  } satisfies Record<MicrophoneProblem, string>,
};

/** What stood at the end of a call, in one sentence. `outgoing`: we had dialled. */
export interface End {
  cause: HangupCause | null;
  side: "me" | "other" | "system" | null;
  outgoing: boolean;
  who: string;
}

const causes: Record<HangupCause, (end: End) => string> = {
  normal: ({ side, who }) =>
    side === "me" ? "You ended the call." : side === "other" ? `${who} ended the call.` : "The call has ended.",
  busy: ({ who }) => `${who} is busy.`,
  no_answer: ({ outgoing, who }) => (outgoing ? `${who} did not answer.` : `Missed call from ${who}.`),
  rejected: ({ outgoing, who }) => (outgoing ? `${who} declined the call.` : "You declined the call."),
  cancelled: ({ outgoing, who }) => (outgoing ? "You cancelled the call." : `Missed call from ${who}.`),
  not_found: () => "This number or extension does not exist.",
  not_allowed: () => "This number may not be called from here. Ask your administrator if you need it.",
  no_emergency_trunk: () => "Emergency calls cannot be made from this phone. Use another telephone now.",
  limit_reached: () => "A limit on calls has been reached. Try again later.",
  carrier_unavailable: () => "The telephone network cannot be reached at the moment. Try again in a few minutes.",
  carrier_auth_failed: () =>
    "The telephone carrier did not accept this system's password. Tell your administrator.",
  congestion: () => "The telephone network is overloaded. Try again in a few minutes.",
  redirected: ({ who }) => `${who} has moved to another number. Forwarded numbers are not followed.`,
  media_incompatible: ({ who }) => `${who} and this phone have no sound format in common.`,
  offline: ({ outgoing, who }) =>
    outgoing ? `${who} is not signed in anywhere.` : `Missed call from ${who}.`,
  media_lost: () => "The sound was interrupted and did not come back.",
  client_gone: () => "The call ended because the phone page was away for too long.",
  node_lost: () => "The call ended because a server failed. Please call again.",
  drained: () => "The call ended because the server is being restarted. Please call again.",
  orphaned: () => "The call ended because the server lost track of it. Please call again.",
  internal_error: () => "The call ended because of a fault in the server. Please call again.",
};

/** Ends that belong to telephoning. Every other cause is trouble that somebody must see at once. */
const ordinary: ReadonlySet<HangupCause | null> = new Set<HangupCause>([
  "normal",
  "busy",
  "no_answer",
  "rejected",
  "cancelled",
  "not_found",
  "redirected",
  "offline",
]);

export function isTrouble(cause: HangupCause | null): boolean {
  return !ordinary.has(cause);
}

export function endSentence(end: End): string {
  return end.cause === null ? "The call ended while the connection was lost." : causes[end.cause](end);
}

/** Words for refusals that have no hang-up cause. */
const refusals: Record<string, string> = {
  invalid: "This is not a number that can be called.",
  limit_reached: "A limit has been reached. Try again later.",
  unauthorized: "You are not allowed to do that.",
  forbidden: "You are not allowed to do that.",
  unavailable: "The server cannot do that at the moment. Try again in a few minutes.",
};

export function refusalSentence(code: string): string {
  return refusals[code] ?? texts.call.failed;
}

/** Why a recording is not there: our words for the server's code, or its sentence when the code is new to this page. */
export function recordingReason(recording: { reason: string | null; reason_code?: string | null }): string | null {
  return texts.recording.reasons[recording.reason_code ?? ""] ?? recording.reason;
}

export function recordingFailed(recording: { reason: string | null; reason_code?: string | null }): string {
  const reason = recordingReason(recording);
  return reason === null || reason === "" ? texts.recording.failed : texts.recording.failed_because(reason);
}

/** The same for a page that the server does not let in. */
export function refusedSentence(frame: { code: string; message: string }): string {
  return texts.connection.refused(texts.connection.refusals[frame.code] ?? frame.message);
}
