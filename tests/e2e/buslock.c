/* SPDX-License-Identifier: Apache-2.0 */
/* Locks the bus for ever: an atomic addition to a number that lies in two cache lines. */
#include <stdint.h>

#define LINE 64

int main(void)
{
	static uint8_t memory[2 * LINE] __attribute__((aligned(LINE)));
	for (;;)
		__asm__ volatile("lock addl $1, (%0)" : : "r"(memory + LINE - 2) : "memory");
}
