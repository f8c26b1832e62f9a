__attribute__((noinline)) int demo_read(volatile int *p)
{
	return *p + 7;
}

__attribute__((section(".init.text"))) int demo_init(volatile int *p)
{
	*p = 2;
	return demo_read(p) + 1;
}
