#ifndef EXECUTOR_H
#define EXECUTOR_H

/* The argv[0] that makes provium-agent an executor (../../init/main.c). */
#define EXECUTOR_NAME "@provium-executor"

/* run_executor makes system calls for the agent, and returns an exit code. */
int run_executor(void);

#endif
