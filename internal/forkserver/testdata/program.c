/* Stands in for QEMU: its first argument says what it does. File 3 is where it answers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *g_malloc(size_t);
void *g_realloc(void *, size_t);
void g_free(void *);

/* The library serves programs that have it. */
void qemu_init(void) {}

/*
 * read_kernel does what QEMU does with a kernel, of which newer ones read the whole, and
 * answers with all of it but the setup.
 */
static int read_kernel(FILE *out, const char *path, int whole)
{
	FILE *f = fopen(path, "rb");
	fseek(f, 0, SEEK_END);
	long size = ftell(f);
	unsigned char header[0x1f2];
	fseek(f, 0, SEEK_SET);
	if (fread(header, 1, sizeof header, f) != sizeof header)
		return 1;
	long setup = (header[0x1f1] + 1) * 512, skipped = whole ? 0 : setup, n = size - skipped;
	char *first = g_malloc(setup), *kernel = g_malloc(n);
	fseek(f, 0, SEEK_SET);
	if (fread(first, 1, setup, f) != (size_t)setup || fseek(f, skipped, SEEK_SET) ||
	    fread(kernel, 1, n, f) != (size_t)n)
		return 2;
	if (fgetc(f) != EOF)
		return 3;
	fclose(f);
	kernel = g_realloc(kernel, n + 64);
	kernel[n] = 1; /* it is writable, and so is what follows */
	char *rest = kernel + setup - skipped;
	rest[0] = 'X';
	fwrite(rest, 1, size - setup, out);
	fflush(out);
	pause();
	g_free(kernel);
	return 0;
}

int main(int argc, char **argv)
{
	FILE *out = fdopen(3, "w");
	const char *what = argc > 1 ? argv[1] : "";
	if (!strcmp(what, "-L")) { /* of the wrapper script */
		argv += 2;
		argc -= 2;
		what = argv[1];
		fprintf(out, "wrapped ");
	}
	if (!strcmp(what, "say")) {
		char dir[4096];
		fprintf(out, "%s %s %d", getcwd(dir, sizeof dir), getenv("WORD"), getppid());
		for (int i = 2; i < argc; i++)
			fprintf(out, " <%s>", argv[i]);
		fflush(out);
		if (getenv("LD_PRELOAD") || getenv("PROVIUM_FORK_SERVER"))
			return 9;
		pause();
	}
	if (!strcmp(what, "fail")) {
		fprintf(stderr, "it failed\n");
		return 3;
	}
	if (!strcmp(what, "leave")) {
		pid_t child = fork();
		if (child == 0)
			pause();
		fprintf(out, "%d", child);
	}
	if (!strcmp(what, "abort"))
		abort();
	if (!strcmp(what, "-kernel"))
		return read_kernel(out, argv[2], argc > 3);
	return 0;
}
