static __attribute__((noinline)) int twin(volatile int *p)
{
	return *p + 1;
}

int other_start(volatile int *p)
{
	return twin(p) + 2;
}
