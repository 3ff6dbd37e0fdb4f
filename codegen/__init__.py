"""From kernels to native code: LLVM text, vector math, objects, shared objects, headers."""
