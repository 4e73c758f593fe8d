export async function askForHugePages(_memories: readonly WebAssembly.Memory[]): Promise<string> {
  return "off";
}
