// What the pickle of a file of tensors can describe, as plain values.

/** A storage: one entry of the archive. */
export interface PickledStorage {
  readonly kind: "storage";
  /** As the file names it: `torch.HalfStorage`. */
  readonly type: string;
  readonly key: string;
  readonly elements: number;
}

/** A tensor: a window onto a storage, in elements. */
export interface PickledTensor {
  readonly kind: "tensor";
  readonly storage: PickledStorage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

export interface GlobalName {
  readonly kind: "global";
  readonly name: string;
}

export interface Sequence {
  readonly kind: "tuple" | "list";
  readonly items: Pickled[];
}

export interface Dictionary {
  readonly kind: "dictionary";
  readonly entries: Map<Pickled, Pickled>;
}

export type Pickled = string | number | boolean | null | PickledStorage | PickledTensor | GlobalName | Sequence | Dictionary;

type Maybe = Pickled | undefined;

function isObjectOf<K extends string>(value: Maybe, kind: K): value is Extract<Pickled, { readonly kind: K }> {
  return typeof value === "object" && value !== null && value.kind === kind;
}

export const isGlobal = (value: Maybe): value is GlobalName => isObjectOf(value, "global");
export const isStorage = (value: Maybe): value is PickledStorage => isObjectOf(value, "storage");

export function isTensor(value: Maybe): value is PickledTensor {
  return isObjectOf(value, "tensor");
}

export function isDictionary(value: Maybe): value is Dictionary {
  return isObjectOf(value, "dictionary");
}

export function itemsOf(value: Maybe, kind: "tuple" | "list"): Pickled[] | null {
  return isObjectOf(value, kind) ? (value as Sequence).items : null;
}

export function isCount(value: Maybe): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
