/* be_pid1 does what PID 1 has to do. It returns when it cannot go on. */
int be_pid1(char **argv, char **envp);
