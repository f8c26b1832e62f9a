/* tick passes sync points at times that the host chooses, for ever. The port by which the host does so is standard
 * input. It returns an exit code where it cannot. */
#define TICKER_NAME "@provium-ticker"
int tick(void);
