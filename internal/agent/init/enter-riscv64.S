/*
 * enter_agent(stack) for riscv64, as in enter-amd64.S. Addresses are not taken from the
 * table of the C program, which is in the memory that goes.
 */
#include <sys/syscall.h>

#define RSEQ_UNREGISTER 1
#define RSEQ_SIGNATURE 0xf1401073
#define RSEQ_SIZE 32
#define ROBUST_LIST_SIZE 24

	.section .agent.enter, "ax", @progbits
	.globl enter_agent
	.type enter_agent, @function
enter_agent:
	mv s1, a0

	la t0, __rseq_offset
	ld t0, 0(t0)
	add a0, tp, t0
	li a1, RSEQ_SIZE
	li a2, RSEQ_UNREGISTER
	li a3, RSEQ_SIGNATURE
	li a7, SYS_rseq
	ecall

	li a0, 0
	li a1, ROBUST_LIST_SIZE
	li a7, SYS_set_robust_list
	ecall

	li a0, 0
	li a7, SYS_set_tid_address
	ecall

	lla a0, program_start
	lla a1, program_end
	sub a1, a1, a0
	li a7, SYS_munmap
	ecall

	mv sp, s1
	li s0, 0
	li ra, 0
	lla t0, agent_entry
	jr t0

	.section .note.GNU-stack, "", @progbits
