/*
 * start_agent makes the process the agent, with its arguments and environment as
 * they are. It returns the exit code of a failure.
 */
int start_agent(char **argv, char **envp);

/* open_self returns a descriptor of the program's own file, or -1 with errno. */
int open_self(void);

/*
 * continue_in_memory executes the program, whose file is self, from memory if the file
 * is not there. It returns when that is not needed or not possible.
 */
void continue_in_memory(int self, char **argv, char **envp);

/*
 * lock_program keeps the pages of the C program in memory if its file stands on a
 * disk. The kernel would panic if PID 1 lost one.
 */
void lock_program(void);
