/*
 * start_agent makes the process the agent, with its arguments and environment as
 * they are. It returns the exit code of a failure.
 */
int start_agent(char **argv, char **envp);

/* open_self returns a descriptor of the program's own file, or -1 with errno. */
int open_self(void);
