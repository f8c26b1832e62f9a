/* Stands in for GLib. */
#include <stdlib.h>

void *g_malloc(size_t n) { return malloc(n); }
void *g_realloc(void *p, size_t n) { return realloc(p, n); }
void g_free(void *p) { free(p); }
