// Hears what a person at the page would hear: every MediaStream that plays in an audio element, summed, as 48 kHz PCM.
// window.__ears.frames(): how many frames were heard so far; window.__ears.take(from, to): base64 of 16-bit samples.
export function ears() {
  const RATE = 48000;
  const chunks = [];
  let total = 0;
  let context;
  let sink;
  const waiting = [];
  const known = new WeakSet();

  const worklet = `registerProcessor('ears', class extends AudioWorkletProcessor {
    constructor() { super(); this.block = new Int16Array(4800); this.at = 0; }
    process(inputs) {
      const channel = inputs[0][0];
      for (let i = 0; i < 128; i++) {
        const v = channel ? Math.max(-1, Math.min(1, channel[i])) : 0;
        this.block[this.at++] = Math.round(v * 32767);
        if (this.at === this.block.length) { this.port.postMessage(this.block.slice()); this.at = 0; }
      }
      return true;
    }
  })`;

  async function open() {
    // A page without an origin yet (about:blank) has no worklets and plays nothing.
    if (!window.isSecureContext) return;
    context = new AudioContext({ sampleRate: RATE });
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([worklet], { type: 'text/javascript' })));
    sink = new AudioWorkletNode(context, 'ears', { numberOfInputs: 1, channelCount: 1, channelCountMode: 'explicit' });
    sink.port.onmessage = ({ data }) => {
      chunks.push(data);
      total += data.length;
    };
    const quiet = context.createGain();
    quiet.gain.value = 0;
    sink.connect(quiet).connect(context.destination);
    for (const stream of waiting.splice(0)) attach(stream);
  }
  function attach(stream) {
    if (!sink) return void waiting.push(stream);
    if (known.has(stream) || stream.getAudioTracks().length === 0) return;
    known.add(stream);
    context.createMediaStreamSource(stream).connect(sink);
  }

  const own = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, 'srcObject');
  Object.defineProperty(HTMLMediaElement.prototype, 'srcObject', {
    configurable: true,
    get() {
      return own.get.call(this);
    },
    set(stream) {
      own.set.call(this, stream);
      // A muted element (a local preview) is not heard.
      if (stream instanceof MediaStream && !this.muted) attach(stream);
    },
  });

  window.__ears = {
    ready: open(),
    streams: () => waiting.length,
    frames: () => total,
    take(from, to) {
      const samples = new Int16Array(Math.max(0, Math.min(to, total) - from));
      let start = 0;
      for (const chunk of chunks) {
        const first = Math.max(from, start);
        const last = Math.min(to, start + chunk.length);
        if (first < last) samples.set(chunk.subarray(first - start, last - start), first - from);
        start += chunk.length;
      }
      const bytes = new Uint8Array(samples.buffer);
      let text = '';
      for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
      return btoa(text);
    },
  };
}
