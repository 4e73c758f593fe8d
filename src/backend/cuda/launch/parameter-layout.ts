// Structures of kernels as tables of fields, and their bytes: field order is memory order, 8-byte fields first, so that no
// padding lies between them.

type FieldKind = "u64" | "f64" | "i32" | "f32";

const BYTES: Record<FieldKind, number> = { u64: 8, f64: 8, i32: 4, f32: 4 };

/** Pointers (and 64-bit counts) are bigint, the rest numbers. */
type FieldValue = { u64: bigint; f64: number; i32: number; f32: number };

export type ParameterValues<Fields extends Record<string, FieldKind>> = {
  -readonly [Name in keyof Fields]: FieldValue[Fields[Name]];
};

export interface ParameterLayout<Fields extends Record<string, FieldKind> = Record<string, FieldKind>> {
  /** Name of the structure in the kernel's source. */
  readonly struct: string;
  readonly fields: Fields;
  /** The same as a list, which is quicker to walk. */
  readonly places: readonly { readonly name: string; readonly kind: FieldKind; readonly at: number }[];
  readonly bytes: number;
}

export function layout<const Fields extends Record<string, FieldKind>>(struct: string, fields: Fields): ParameterLayout<Fields> {
  let bytes = 0;
  const places = Object.entries(fields).map(([name, kind]) => {
    const at = bytes;
    bytes += BYTES[kind];
    return { name, kind, at };
  });
  return { struct, fields, places, bytes: Math.ceil(bytes / 8) * 8 };
}

/** Writes a structure's bytes, little-endian. */
export function writeParameters<Fields extends Record<string, FieldKind>>(
  layout: ParameterLayout<Fields>,
  values: ParameterValues<Fields>,
): Uint8Array<ArrayBuffer> {
  const buffer = new Uint8Array(layout.bytes);
  writeParametersAt(new DataView(buffer.buffer), 0, layout, values);
  return buffer;
}

/** Writes them to a place in memory that is there already. */
export function writeParametersAt<Fields extends Record<string, FieldKind>>(
  view: DataView,
  begin: number,
  { places }: ParameterLayout<Fields>,
  values: ParameterValues<Fields>,
): void {
  for (const { name, kind, at } of places) {
    const value = values[name as keyof Fields];
    if (kind === "u64") view.setBigUint64(begin + at, value as bigint, true);
    else if (kind === "f64") view.setFloat64(begin + at, value as number, true);
    else if (kind === "i32") view.setInt32(begin + at, value as number, true);
    else view.setFloat32(begin + at, value as number, true);
  }
}
