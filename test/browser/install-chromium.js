// Prints the path of a Chromium or Chrome to test the page in: one that is installed, or one
// that Debian's or Ubuntu's package manager installs now, where this may be done.

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

const KNOWN = [
  process.env.EXLLAMA_CHROMIUM,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/usr/bin/google-chrome-stable",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe",
  "C:\\Program Files (x86)\\Microsoft\\Edge\\Application\\msedge.exe",
];

const path = installed() ?? install();
if (path) process.stdout.write(`${path}\n`);
else {
  process.stderr.write(
    "The tests of the web page need Chromium or Chrome, and none is here. Install one, for\n" +
      "example with `apt-get install chromium`, or name it in EXLLAMA_CHROMIUM.\n",
  );
  process.exitCode = 1;
}

function installed() {
  return KNOWN.find((candidate) => candidate && existsSync(candidate));
}

function install() {
  if (process.getuid?.() !== 0 || spawnSync("apt-get", ["--version"]).status !== 0) return undefined;
  process.stderr.write("installing chromium for the tests of the web page\n");
  const options = { stdio: ["ignore", "ignore", "inherit"], env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } };
  const fetch = () =>
    execFileSync("apt-get", ["-o", "DPkg::Lock::Timeout=240", "install", "-y", "--no-install-recommends", "chromium"], options);
  try {
    fetch();
  } catch {
    // The lists of packages may be older than the packages.
    spawnSync("apt-get", ["update"], options);
    try {
      fetch();
    } catch {
      return undefined;
    }
  }
  return installed();
}
