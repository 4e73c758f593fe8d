// Reads one call's JSON object from a stream of text: its `name`, and its arguments as they
// come, in the very characters that the model wrote. Everything else in it is skipped.

export interface CallPiece {
  readonly name?: string;
  readonly arguments?: string;
}

type State = "before" | "key" | "colon" | "value" | "after" | "done" | "wrong";

/** Fields that models write into a call; an object with others is none. */
const FIELDS = new Set(["name", "arguments", "parameters", "id", "type"]);

export class CallReader {
  readonly #argumentsField: string;
  readonly #stopAfterArguments: boolean;
  #state: State = "before";
  /** Of the string or value being read. */
  #text = "";
  #depth = 0;
  #inString = false;
  #escaped = false;
  #key = "";
  #name: string | null = null;
  /** Arguments that came before the name. */
  #early = "";

  /** @param name known already: then only the arguments follow */
  constructor(argumentsField: string, name: string | null = null) {
    this.#argumentsField = argumentsField;
    this.#stopAfterArguments = name !== null;
    if (name === null) return;
    this.#name = name;
    this.#key = argumentsField;
    this.#state = "value";
  }

  /** The object has ended. */
  get done(): boolean {
    return this.#state === "done";
  }

  /** What came is no object of a call. */
  get wrong(): boolean {
    return this.#state === "wrong";
  }

  get name(): string | null {
    return this.#name;
  }

  /** Takes characters up to the object's end. @returns how many it took, and what they say */
  push(text: string): { taken: number; piece: CallPiece } {
    let given = "";
    const nameBefore = this.#name;
    let at = 0;
    while (at < text.length && this.#state !== "done" && this.#state !== "wrong") given += this.#take(text[at++]!);
    if (this.#name === null) {
      this.#early += given;
      return { taken: at, piece: {} };
    }
    if (nameBefore !== null) return { taken: at, piece: given === "" ? {} : { arguments: given } };
    const all = this.#early + given;
    return { taken: at, piece: { name: this.#name, ...(all === "" ? {} : { arguments: all }) } };
  }

  /** @returns what of the arguments this character is */
  #take(character: string): string {
    const space = /\s/.test(character);
    switch (this.#state) {
      case "before":
        if (space) return "";
        this.#state = character === "{" ? "key" : "wrong";
        return "";
      case "key":
        if (this.#inString) {
          this.#stringCharacter(character);
          if (!this.#inString) this.#keyEnds();
        } else if (character === '"') {
          this.#text = '"';
          this.#inString = true;
        } else if (!space) this.#state = "wrong";
        return "";
      case "colon":
        if (space) return "";
        this.#state = character === ":" ? "value" : "wrong";
        return "";
      case "value":
        return this.#valueCharacter(character, space);
      case "after":
        if (character === ",") this.#state = "key";
        else if (character === "}") this.#state = "done";
        else if (!space) this.#state = "wrong";
        return "";
      default:
        return "";
    }
  }

  #stringCharacter(character: string): void {
    this.#text += character;
    if (this.#escaped) this.#escaped = false;
    else if (character === "\\") this.#escaped = true;
    else if (character === '"') this.#inString = false;
  }

  #keyEnds(): void {
    this.#key = parseString(this.#text) ?? "";
    this.#text = "";
    this.#state = FIELDS.has(this.#key) ? "colon" : "wrong";
  }

  #valueCharacter(character: string, space: boolean): string {
    const wanted = this.#key === this.#argumentsField;
    if (this.#text === "" && !this.#inString && space) return "";
    if (this.#inString) {
      this.#stringCharacter(character);
      if (!this.#inString && this.#depth === 0) this.#valueEnds();
      return wanted ? character : "";
    }
    if (this.#depth === 0 && (character === "," || character === "}" || space)) {
      // The end of a number or a word.
      this.#valueEnds();
      if (!space) this.#take(character);
      return "";
    }
    if (character === '"') {
      this.#text += '"';
      this.#inString = true;
      this.#escaped = false;
    } else {
      this.#text += character;
      if (character === "{" || character === "[") this.#depth++;
      else if (character === "}" || character === "]") this.#depth--;
      if (this.#depth === 0 && (character === "}" || character === "]")) this.#valueEnds();
    }
    return wanted ? character : "";
  }

  #valueEnds(): void {
    if (this.#key === "name") {
      const name = parseString(this.#text);
      if (name === null || this.#name !== null) this.#state = "wrong";
      else this.#name = name;
    }
    this.#text = "";
    this.#depth = 0;
    if (this.#state !== "value") return;
    this.#state = this.#stopAfterArguments ? "done" : "after";
  }
}

function parseString(text: string): string | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "string" ? value : null;
  } catch {
    return null;
  }
}
