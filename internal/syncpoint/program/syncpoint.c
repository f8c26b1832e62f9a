// A QEMU plugin that stops the guest's CPU at sync points, until the host lets it go on.
//
// A sync point is an instruction that does nothing: 66 0f 1f 84 00, then 'P', 'V', 'S' and a
// letter that says which kind of point it is. The letter goes to the host by the socket whose
// number is the plugin's argument fd=N; the CPU goes on when the host answers with one byte. A
// host that is gone ends QEMU: a guest that goes on by itself would be another run.
//
// API is the version of QEMU's plugin interface, whose few prototypes are declared here, so that
// the build needs no header of QEMU.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info {
	const char *target_name;
	struct {
		int min, cur;
	} version;
	bool system_emulation;
	struct {
		int smp_vcpus, max_vcpus;
	} system;
};

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
	void (*cb)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
	void (*cb)(unsigned int cpu, void *data), int flags, void *data);
#if API >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t size);
#else
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
#endif

EXPORT int qemu_plugin_version = API;

static const unsigned char magic[] = {0x66, 0x0f, 0x1f, 0x84, 0x00, 'P', 'V', 'S'};
enum { size = sizeof magic + 1 };

enum { hlt = 0xf4 };

static int host = -1;
static int main_thread = -1; // its /proc file `stat`

static void gone(const char *what)
{
	fprintf(stderr, "provium sync points: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void say(unsigned char c)
{
	ssize_t n;

	while ((n = write(host, &c, 1)) < 0 && errno == EINTR)
		;
	if (n != 1)
		gone("write to the host");
}

static void stop(unsigned int cpu, void *kind)
{
	unsigned char answer;
	ssize_t n;

	(void)cpu;
	say((unsigned char)(uintptr_t)kind);
	while ((n = read(host, &answer, 1)) < 0 && errno == EINTR)
		;
	if (n != 1)
		gone("the host is gone");
}

// insn_data copies the bytes of an instruction, which has n of them.
static bool insn_data(const struct qemu_plugin_insn *insn, unsigned char *to, size_t n)
{
#if API >= 3
	return qemu_plugin_insn_data(insn, to, n) == n;
#else
	memcpy(to, qemu_plugin_insn_data(insn), n);
	return true;
#endif
}

// QEMU's main loop skips the time of a CPU that has halted. The CPU counts as halted a moment before
// its last instructions are counted: a main loop that is awake just then skips too much. So the CPU
// halts only while the main loop sleeps, which the CPU wakes when all is counted.
static void halt(unsigned int cpu, void *unused)
{
	(void)cpu;
	(void)unused;
	for (;;) {
		char text[64];
		ssize_t n = pread(main_thread, text, sizeof text - 1, 0);
		const char *state;

		if (n <= 0)
			gone("state of the main loop");
		text[n] = 0;
		state = strrchr(text, ')');
		if (state != NULL && state[1] == ' ' && state[2] == 'S')
			return;
		sched_yield();
	}
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb);

	(void)id;
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		unsigned char code[size];

		if (qemu_plugin_insn_size(insn) == 1) {
			if (insn_data(insn, code, 1) && code[0] == hlt)
				qemu_plugin_register_vcpu_insn_exec_cb(insn, halt, 0, NULL);
			continue;
		}
		if (qemu_plugin_insn_size(insn) != size)
			continue;
		if (!insn_data(insn, code, size))
			continue;
		if (memcmp(code, magic, sizeof magic) == 0)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, stop, 0, (void *)(uintptr_t)code[size - 1]);
	}
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
	char path[64];

	if (argc != 1 || strncmp(argv[0], "fd=", 3) != 0) {
		fprintf(stderr, "provium sync points: expected fd=N\n");
		return 1;
	}
	host = atoi(argv[0] + 3);
	if (!info->system_emulation || strcmp(info->target_name, "x86_64") != 0 || info->system.smp_vcpus != 1) {
		fprintf(stderr, "provium sync points: expected a system of x86_64 with one CPU\n");
		return 1;
	}
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)getpid());
	main_thread = open(path, O_RDONLY | O_CLOEXEC);
	if (main_thread < 0) {
		fprintf(stderr, "provium sync points: %s: %s\n", path, strerror(errno));
		return 1;
	}
	say('L');
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
