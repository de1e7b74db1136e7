// Drives one Chromium for the end-to-end tests: JSON lines in on stdin, JSON lines out on stdout.
// {id, cmd, ...} -> {id, ok} | {id, error}
import { chromium } from 'playwright-core';
import { createInterface } from 'node:readline';
import { ears } from './ears.mjs';

let browser;
let context;
const pages = new Map();

const FLAGS = [
  '--no-sandbox',
  '--use-fake-device-for-media-stream',
  '--allow-loopback-in-peer-connection',
  '--disable-features=WebRtcHideLocalIpsWithMdns',
  '--ignore-certificate-errors',
  '--autoplay-policy=no-user-gesture-required',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

function locate(page, { role, name, label, text, css, exact }) {
  if (css) return page.locator(css);
  if (label) return page.getByLabel(label, { exact: exact ?? false });
  if (role) {
    const found = page.getByRole(role, name === undefined ? {} : { name, exact: exact ?? false });
    return text === undefined ? found : found.filter({ hasText: text });
  }
  return page.getByText(text, { exact: exact ?? false });
}

const commands = {
  // wav: the microphone; denied: the person refuses it; listen: tap what is heard (needs the page's CSP out of the way).
  async launch({ wav, denied, listen, width, height, origin }) {
    const args = [...FLAGS];
    if (!denied) args.push('--use-fake-ui-for-media-stream');
    if (wav) args.push(`--use-file-for-fake-audio-capture=${wav}`);
    browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args });
    context = await browser.newContext({
      ignoreHTTPSErrors: true,
      bypassCSP: Boolean(listen),
      viewport: { width: width ?? 1000, height: height ?? 800 },
    });
    if (!denied && origin) await context.grantPermissions(['microphone'], { origin });
    if (listen) await context.addInitScript(ears);
    return { version: browser.version() };
  },
  async open({ page, url }) {
    const made = pages.get(page) ?? (await context.newPage());
    if (!pages.has(page)) {
      made.on('console', (message) => note(page, `${message.type()}: ${message.text()}`));
      made.on('pageerror', (error) => note(page, `uncaught: ${error.message}`));
      pages.set(page, made);
    }
    await made.goto(url, { waitUntil: 'load' });
    return {};
  },
  async reload({ page }) {
    await pages.get(page).reload({ waitUntil: 'load' });
    return {};
  },
  async click({ page, timeout_ms, ...what }) {
    await locate(pages.get(page), what).first().click({ timeout: timeout_ms });
    return {};
  },
  async fill({ page, value, timeout_ms, ...what }) {
    await locate(pages.get(page), what).first().fill(value, { timeout: timeout_ms });
    return {};
  },
  async check({ page, on, timeout_ms, ...what }) {
    await locate(pages.get(page), what).first().setChecked(on, { timeout: timeout_ms });
    return {};
  },
  async press({ page, key }) {
    await pages.get(page).keyboard.press(key);
    return {};
  },
  async wait({ page, state, timeout_ms, ...what }) {
    await locate(pages.get(page), what).first().waitFor({ state: state ?? 'visible', timeout: timeout_ms });
    return {};
  },
  async text({ page, timeout_ms, ...what }) {
    return { text: await locate(pages.get(page), what).first().innerText({ timeout: timeout_ms }) };
  },
  async count({ page, ...what }) {
    return { count: await locate(pages.get(page), what).count() };
  },
  async body({ page }) {
    return { text: await pages.get(page).locator('body').innerText() };
  },
  async evaluate({ page, js }) {
    return { value: (await pages.get(page).evaluate(js)) ?? null };
  },
  async choose({ page, value, timeout_ms, ...what }) {
    await locate(pages.get(page), what).first().selectOption(value, { timeout: timeout_ms });
    return {};
  },
  async until({ page, js, timeout_ms }) {
    await pages.get(page).waitForFunction(js, undefined, { timeout: timeout_ms, polling: 100 });
    return {};
  },
  async init({ js }) {
    await context.addInitScript(js);
    return {};
  },
  async offline({ on }) {
    await context.setOffline(on);
    return {};
  },
  async screenshot({ page, path }) {
    await pages.get(page).screenshot({ path, fullPage: true });
    return {};
  },
  async close_page({ page }) {
    await pages.get(page)?.close();
    pages.delete(page);
    return {};
  },
  async quit() {
    await browser?.close();
    return {};
  },
};

function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
function note(page, text) {
  process.stderr.write(`[${page}] ${text}\n`);
}

const lines = createInterface({ input: process.stdin });
lines.on('line', async (line) => {
  const { id, cmd, ...rest } = JSON.parse(line);
  try {
    say({ id, ok: await commands[cmd](rest) });
  } catch (error) {
    say({ id, error: String(error?.message ?? error) });
  }
  if (cmd === 'quit') process.exit(0);
});
// The test is gone: so is the browser.
lines.on('close', async () => {
  await browser?.close();
  process.exit(0);
});
