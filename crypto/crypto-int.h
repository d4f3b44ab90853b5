/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crypto-int.h - what the files of the room tell each other */
#ifndef CRYPTO_CRYPTO_INT_H
#define CRYPTO_CRYPTO_INT_H

/* crypto_init() - make libgcrypt ready; before anything of it is used.  Any thread, any number of times. */
void crypto_init(void);

#endif
