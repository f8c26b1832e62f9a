/*
 * enter_agent(stack) for arm64, as in enter-amd64.S.
 */
#include <sys/syscall.h>

#define RSEQ_UNREGISTER 1
#define RSEQ_SIGNATURE 0xd428bc00
#define RSEQ_SIZE 32
#define ROBUST_LIST_SIZE 24

	.section .agent.enter, "ax", %progbits
	.globl enter_agent
	.type enter_agent, %function
enter_agent:
	mov x19, x0

	ldr x1, =__rseq_offset
	ldr x1, [x1]
	mrs x0, tpidr_el0
	add x0, x0, x1
	mov x1, #RSEQ_SIZE
	mov x2, #RSEQ_UNREGISTER
	ldr w3, =RSEQ_SIGNATURE
	mov x8, #SYS_rseq
	svc #0

	mov x0, #0
	mov x1, #ROBUST_LIST_SIZE
	mov x8, #SYS_set_robust_list
	svc #0

	mov x0, #0
	mov x8, #SYS_set_tid_address
	svc #0

	ldr x0, =program_start
	ldr x1, =program_end
	sub x1, x1, x0
	mov x8, #SYS_munmap
	svc #0

	mov sp, x19
	mov x29, #0
	mov x30, #0
	ldr x16, =agent_entry
	br x16
	.ltorg

	.section .note.GNU-stack, "", %progbits
