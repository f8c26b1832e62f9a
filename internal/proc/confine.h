// CONFINE_NAME is argv[0] of a program that is about to be confined.
#define CONFINE_NAME "provium-confine"
