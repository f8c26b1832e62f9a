// SERVE_NAME is argv[0] of a program that is about to serve as root of its own namespace.
#define SERVE_NAME "provium-serve"
