// How remarks of plans begin that are told apart by it; by itself, so that telling them apart takes no planner.

/** Begins the remark of a plan for the CPU that nobody asked for. */
export const ON_CPU = "on the CPU: ";
