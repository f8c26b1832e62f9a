/* The sources of vmlinux and demo.ko, which `sh build` makes of them. */
static __attribute__((noinline)) int twin(volatile int *p)
{
	return *p + 1;
}

__attribute__((noinline)) int demo_fail(volatile int *p)
{
	*p = 1;
	return twin(p);
}

int _start(void)
{
	int x = 0;

	return demo_fail(&x) + 1;
}
