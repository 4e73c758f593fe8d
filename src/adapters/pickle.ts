// Reads the pickle in a PyTorch file without running anything. A pickle is a program for a stack
// machine, and in Python some of its instructions import and call whatever they name. Here
// there is nothing to call: the few instructions that torch.save writes for a dictionary of
// tensors become plain values, a handful of names stand for themselves, and everything else is
// refused by name.

import { TorchFileError } from "./errors.js";
import { PickleBytes } from "./pickle-bytes.js";
import {
  isCount,
  isDictionary,
  isGlobal,
  isStorage,
  isTensor,
  itemsOf,
  type Pickled,
  type PickledTensor,
} from "./pickled-values.js";

const ORDERED_DICT = "collections.OrderedDict";
const REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2";
const REBUILD_PARAMETER = "torch._utils._rebuild_parameter";

/** Names that may be mentioned. */
function isKnownGlobal(name: string): boolean {
  return [ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER].includes(name) || /^torch\.[A-Z][A-Za-z0-9]{1,20}Storage$/.test(name);
}

/** Instructions that are refused, by the names of Python's pickletools. */
const REFUSED: Readonly<Record<number, string>> = {
  80: "PERSID",
  105: "INST",
  111: "OBJ",
  129: "NEWOBJ",
  130: "EXT1",
  131: "EXT2",
  132: "EXT4",
  146: "NEWOBJ_EX",
  147: "STACK_GLOBAL",
  151: "NEXT_BUFFER",
};

/** Newest protocol whose instructions are known here; torch.save writes 2. */
const MOST_PROTOCOL = 2;

/**
 * The value that a pickle describes.
 *
 * @param file name for messages
 * @throws {TorchFileError} naming the instruction or the global that is refused
 */
export function readPickle(bytes: Uint8Array, file: string): Pickled {
  return new Machine(bytes, file).run();
}

class Machine {
  readonly #bytes: PickleBytes;
  readonly #file: string;
  readonly #stack: Pickled[] = [];
  /** Heights of the stack. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, Pickled>();

  constructor(bytes: Uint8Array, file: string) {
    this.#bytes = new PickleBytes(bytes, file);
    this.#file = file;
  }

  run(): Pickled {
    for (;;) {
      const opcode = this.#bytes.u8();
      if (opcode === 0x2e) break; // STOP
      this.#execute(opcode);
    }
    const value = this.#pop();
    if (this.#stack.length > 0 || !this.#bytes.atEnd) throw this.#fault("its pickle goes on after its end");
    return value;
  }

  #execute(opcode: number): void {
    switch (opcode) {
      case 0x80: // PROTO
        this.#protocol(this.#bytes.u8());
        return;
      case 0x28: // MARK
        this.#marks.push(this.#stack.length);
        return;
      case 0x4e: // NONE
        this.#push(null);
        return;
      case 0x88: // NEWTRUE
        this.#push(true);
        return;
      case 0x89: // NEWFALSE
        this.#push(false);
        return;
      case 0x4b: // BININT1
        this.#push(this.#bytes.u8());
        return;
      case 0x4d: // BININT2
        this.#push(this.#bytes.take(2).getUint16(0, true));
        return;
      case 0x4a: // BININT
        this.#push(this.#bytes.take(4).getInt32(0, true));
        return;
      case 0x8a: // LONG1
        this.#push(this.#bytes.long(this.#bytes.u8()));
        return;
      case 0x47: // BINFLOAT
        this.#push(this.#bytes.take(8).getFloat64(0, false));
        return;
      case 0x58: // BINUNICODE
        this.#push(this.#bytes.text(this.#bytes.take(4).getUint32(0, true)));
        return;
      case 0x7d: // EMPTY_DICT
        this.#push({ kind: "dictionary", entries: new Map() });
        return;
      case 0x5d: // EMPTY_LIST
        this.#push({ kind: "list", items: [] });
        return;
      case 0x29: // EMPTY_TUPLE
        this.#push({ kind: "tuple", items: [] });
        return;
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        this.#tuple(opcode - 0x84);
        return;
      case 0x74: // TUPLE
        this.#push({ kind: "tuple", items: this.#popMark() });
        return;
      case 0x61: // APPEND
        this.#append([this.#pop()]);
        return;
      case 0x65: // APPENDS
        this.#append(this.#popMark());
        return;
      case 0x73: // SETITEM
        this.#setItems(this.#popMany(2));
        return;
      case 0x75: // SETITEMS
        this.#setItems(this.#popMark());
        return;
      case 0x71: // BINPUT
        this.#remember(this.#bytes.u8());
        return;
      case 0x72: // LONG_BINPUT
        this.#remember(this.#bytes.take(4).getUint32(0, true));
        return;
      case 0x68: // BINGET
        this.#recall(this.#bytes.u8());
        return;
      case 0x6a: // LONG_BINGET
        this.#recall(this.#bytes.take(4).getUint32(0, true));
        return;
      case 0x63: // GLOBAL
        this.#global(`${this.#bytes.line()}.${this.#bytes.line()}`);
        return;
      case 0x51: // BINPERSID
        this.#storage(this.#pop());
        return;
      case 0x52: // REDUCE
        this.#reduce();
        return;
      case 0x62: // BUILD
        this.#build();
        return;
      default:
        throw this.#fault(
          `its pickle has the instruction ${REFUSED[opcode] ?? `0x${opcode.toString(16)}`}, which a file of tensors does not need`,
          { opcode },
        );
    }
  }

  #protocol(version: number): void {
    if (version > MOST_PROTOCOL)
      throw this.#fault(`its pickle has protocol ${version}; torch.save writes ${MOST_PROTOCOL} unless told otherwise`);
  }

  #global(name: string): void {
    if (!isKnownGlobal(name))
      throw this.#fault(`its pickle names ${JSON.stringify(name.slice(0, 120))}, which a file of tensors does not need`, {
        global: name.slice(0, 120),
      });
    this.#push({ kind: "global", name });
  }

  /** What torch.save gives in a storage's place: ("storage", type, key, device, elements). */
  #storage(id: Pickled): void {
    const [what, type, key, device, elements] = itemsOf(id, "tuple") ?? [];
    if (what !== "storage" || !isGlobal(type) || typeof key !== "string" || typeof device !== "string" || !isCount(elements))
      throw this.#fault("its pickle refers to something that is no storage");
    this.#push({ kind: "storage", type: type.name, key, elements });
  }

  #reduce(): void {
    const [callee, given] = this.#popMany(2);
    const parameters = itemsOf(given, "tuple");
    const name = isGlobal(callee) ? callee.name : null;
    if (!parameters || name === null) throw this.#fault("its pickle calls something that has no name");
    this.#push(this.#called(name, parameters));
  }

  #called(name: string, parameters: readonly Pickled[]): Pickled {
    if (name === ORDERED_DICT && parameters.length === 0) return { kind: "dictionary", entries: new Map() };
    if (name === REBUILD_PARAMETER && isTensor(parameters[0])) return parameters[0];
    if (name === REBUILD_TENSOR) return this.#tensor(parameters);
    throw this.#fault(`its pickle calls ${name} in a way that a file of tensors does not need`, { global: name });
  }

  #tensor([storage, offset, size, stride]: readonly (Pickled | undefined)[]): PickledTensor {
    const shape = itemsOf(size, "tuple");
    const strides = itemsOf(stride, "tuple");
    if (
      !isStorage(storage) ||
      !isCount(offset) ||
      !shape?.every(isCount) ||
      !strides?.every(isCount) ||
      shape.length !== strides.length
    )
      throw this.#fault("its pickle builds a tensor from something else than storage, offset, shape and strides");
    return { kind: "tensor", storage, offset, shape: shape as number[], strides: strides as number[] };
  }

  /** Only what hangs on a state dictionary beside its entries (`_metadata`): nothing that a tensor depends on. */
  #build(): void {
    this.#pop();
    if (!isDictionary(this.#stack.at(-1))) throw this.#fault("its pickle gives a state to something that is no dictionary");
  }

  #append(items: readonly Pickled[]): void {
    const list = itemsOf(this.#stack.at(-1), "list");
    if (!list) throw this.#fault("its pickle appends to something that is no list");
    for (const item of items) list.push(item);
  }

  #setItems(items: readonly Pickled[]): void {
    const dictionary = this.#stack.at(-1);
    if (!isDictionary(dictionary) || items.length % 2 !== 0)
      throw this.#fault("its pickle sets items of something that is no dictionary");
    for (let i = 0; i < items.length; i += 2) {
      if (dictionary.entries.has(items[i]!)) throw this.#fault("a key stands twice in one of its dictionaries");
      dictionary.entries.set(items[i]!, items[i + 1]!);
    }
  }

  #tuple(length: number): void {
    const items = this.#popMany(length);
    this.#push({ kind: "tuple", items });
  }

  #remember(key: number): void {
    const top = this.#stack.at(-1);
    if (top === undefined) throw this.#fault("its pickle remembers nothing");
    this.#memo.set(key, top);
  }

  #recall(key: number): void {
    const value = this.#memo.get(key);
    if (value === undefined) throw this.#fault("its pickle recalls what it never remembered");
    this.#push(value);
  }

  #push(value: Pickled): void {
    this.#stack.push(value);
  }

  #pop(): Pickled {
    return this.#popMany(1)[0]!;
  }

  #popMany(count: number): Pickled[] {
    // What lies below a mark belongs to whoever set it.
    if (this.#stack.length - count < (this.#marks.at(-1) ?? 0))
      throw this.#fault("its pickle takes more from the stack than there is");
    return this.#stack.splice(this.#stack.length - count);
  }

  #popMark(): Pickled[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.#fault("its pickle goes back to a mark that it never set");
    return this.#stack.splice(mark);
  }

  #fault(message: string, details: Record<string, unknown> = {}): TorchFileError {
    return new TorchFileError(this.#file, message, { details });
  }
}
