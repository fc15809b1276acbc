/* SPDX-License-Identifier: Apache-2.0 */
/* An init that reboots at once: what a peer's "boot to init and reboot" is measured with. */
#include <sys/reboot.h>

int main(void)
{
	return reboot(RB_AUTOBOOT);
}
