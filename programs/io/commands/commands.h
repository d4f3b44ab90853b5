/* SPDX-License-Identifier: GPL-2.0-or-later */
/* commands.h - the commands there are; command.c has the table */
#ifndef IO_COMMANDS_H
#define IO_COMMANDS_H

#include "programs/io/io.h"

/* read.c */
extern const IoCommand io_read, io_readv;
/* write.c */
extern const IoCommand io_write, io_writev;
/* aio.c */
extern const IoCommand io_aio_flush, io_aio_read, io_aio_write;
/* space.c */
extern const IoCommand io_discard, io_flush, io_length, io_truncate;
/* status.c */
extern const IoCommand io_alloc, io_info, io_map;
/* open.c */
extern const IoCommand io_close, io_open, io_reopen;
/* debug.c */
extern const IoCommand io_abort, io_break, io_remove_break, io_resume, io_sigraise, io_sleep;
extern const IoCommand io_wait_break;
/* help.c */
extern const IoCommand io_help, io_quit;
/* zone.c */
extern const IoCommand io_zone_append, io_zone_close, io_zone_finish, io_zone_open;
extern const IoCommand io_zone_report, io_zone_reset;

#endif
