/* dd runs as the command of that name and returns its exit code. */
int dd(int argc, char **argv, char **envp);
