// KEEPER_NAME is argv[0] of a keeper, and what process lists show.
#define KEEPER_NAME "provium-keeper"
