// SPDX-License-Identifier: GPL-2.0-only
/* hello - proves that the guest runs programs and reaches the host. */
#include <stdio.h>

int main(void)
{
	puts("hello");
	return 0;
}
