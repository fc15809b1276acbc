/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel parameters that a guest on this processor needs. */
#ifndef WISP_MONITOR_KERNEL_ARGS_X86_64_H
#define WISP_MONITOR_KERNEL_ARGS_X86_64_H

#include <stdbool.h>

#define HOST_CLOCKSOURCE "/sys/devices/system/clocksource/clocksource0/current_clocksource"

/*
 * Whether a guest of `cpus` vCPUs may take time from the TSC unchecked. A single vCPU may. Several may only if the TSCs
 * of the host's processors agree, which the host's own clock source (the file `clocksource`) tells: Linux stops using a
 * TSC that it finds unstable.
 */
bool tsc_is_stable(unsigned cpus, const char *clocksource);

/*
 * reboot=k: a reset is one write to port 0x64. panic_warm: a reset after a panic leaves the warm boot flag, by which
 * boot_panicked tells it from a reboot. tsc=reliable: no watchdog, no check across processors. swiotlb=noforce: a guest
 * with RAM above 4 GiB reserves no 64 MiB of bounce buffers, since every device reaches all memory. Few words: the
 * kernel compares each with every parameter that it knows.
 */
const char *arch_kernel_args(bool stable_tsc, bool high_memory);

#endif
