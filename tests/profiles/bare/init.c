/*
 * The only program of the image "bare". As PID 1 it mounts /proc, says that it
 * is there and reaps children. Started by a test it answers a question.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int be_init(void)
{
	mkdir("/proc", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	printf("bare init: up\n");
	fflush(stdout);
	for (;;)
		if (wait(NULL) < 0)
			pause();
}

int main(int argc, char **argv)
{
	if (getpid() == 1)
		return be_init();
	if (argc == 3 && !strcmp(argv[1], "echo")) {
		puts(argv[2]);
		return 0;
	}
	fprintf(stderr, "usage: init echo TEXT\n");
	return 2;
}
