/*
 * enter_agent(stack) unmaps the C program and starts the agent on the stack that
 * the kernel has made for the process. This page stands apart (embed.sh).
 *
 * The kernel has addresses in that memory, which it must forget: the C library
 * has registered them for this thread.
 */
#include <sys/syscall.h>

#define PAGE 4096
#define RSEQ_UNREGISTER 1
#define RSEQ_SIGNATURE 0x53053053
#define RSEQ_SIZE 32
#define ROBUST_LIST_SIZE 24

	.section .agent.enter, "ax", @progbits
	.globl enter_agent
	.type enter_agent, @function
enter_agent:
	mov %rdi, %rbx

	mov __rseq_offset@GOTPCREL(%rip), %rax
	mov (%rax), %rdi
	add %fs:0, %rdi
	mov $RSEQ_SIZE, %esi
	mov $RSEQ_UNREGISTER, %edx
	mov $RSEQ_SIGNATURE, %r10d
	mov $SYS_rseq, %eax
	syscall

	xor %edi, %edi
	mov $ROBUST_LIST_SIZE, %esi
	mov $SYS_set_robust_list, %eax
	syscall

	xor %edi, %edi
	mov $SYS_set_tid_address, %eax
	syscall

	mov $program_start, %edi
	mov $program_end, %esi
	sub %edi, %esi
	mov $SYS_munmap, %eax
	syscall

	mov %rbx, %rsp
	xor %edx, %edx
	xor %ebp, %ebp
	mov $agent_entry, %eax
	jmp *%rax

	.section .note.GNU-stack, "", @progbits
