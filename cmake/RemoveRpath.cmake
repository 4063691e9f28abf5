# cmake -DPROGRAM=... -P RemoveRpath.cmake: forgets the library folders of the machine that linked the program.
file(RPATH_REMOVE FILE "${PROGRAM}")
