/* disturb interrupts the processes of the guest at moments that follow from a seed, for ever. It returns an exit
 * code where it cannot. */
#define DISTURBER_NAME "@provium-disturber"
int disturb(const char *seed);
