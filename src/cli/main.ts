#!/usr/bin/env node
// The program `exllama`. Everything it can do is a command of its own file; what they share
// lies beside them. Exit codes: 0 done, 1 failed, 2 not understood, 130 interrupted.

import { exitQuietlyOnClosedPipe } from "./output.js";
import { runProgram } from "./program.js";

exitQuietlyOnClosedPipe();
process.exitCode = await runProgram(process.argv.slice(2));
