// Makes the program that preloads it, and whatever it starts, believe in a machine with one core:
// for programs that leave the number of threads to the library. Files of tests run side by side, and
// threads of several programs that look for each other on the same cores cost three times the work.

import { syncBuiltinESMExports } from "node:module";
import os from "node:os";

os.availableParallelism = () => 1;
syncBuiltinESMExports();
