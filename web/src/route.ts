// Which part of the page is shown, kept in the address after `#`: a link, a reload and the back
// button all work, and the server has one page to serve.

import { signal } from "@preact/signals";

export type Route = { readonly at: "start" } | { readonly at: "session"; readonly id: string } | { readonly at: "memory" };

export const route = signal<Route>(read());

window.addEventListener("hashchange", () => {
  route.value = read();
});

export function linkTo(target: Route): string {
  return target.at === "session" ? `#/s/${target.id}` : target.at === "memory" ? "#/memory" : "#/";
}

export function go(target: Route): void {
  location.hash = linkTo(target);
  route.value = target;
}

function read(): Route {
  const [, first, id] = location.hash.split("/");
  if (first === "memory") return { at: "memory" };
  return first === "s" && id ? { at: "session", id } : { at: "start" };
}
