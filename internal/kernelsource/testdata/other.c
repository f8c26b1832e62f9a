static __attribute__((noinline)) int twin(volatile int *p)
{
	return *p + 1;
}

int other_start(volatile int *p)
{
	return twin(p) + 2;
}

/* It is linked before all others, and stands last in the table of lines. */
__attribute__((section(".text.unlikely"))) int other_cold(volatile int *p)
{
	return *p - 3;
}
