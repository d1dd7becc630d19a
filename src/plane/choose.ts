// Which plane moves the bytes, and why.

import { UnsupportedError } from '../core/errors.ts'
import { logger } from '../core/log.ts'
import type { Plane } from './plane.ts'
import { portablePlane } from './portable/plane.ts'

export type PlaneSetting = 'auto' | 'portable' | 'native'

/** The plane for a setting, logged with its reason. Throws `UnsupportedError` when it is not to be had. */
export function choosePlane(setting: PlaneSetting): Plane {
  if (setting === 'native') throw new UnsupportedError('plane: the native plane is not part of this build')
  const why =
    setting === 'auto' ? 'the native plane is not part of this build' : 'the configuration asks for it'
  logger('plane').info(`portable plane: ${why}`)
  return portablePlane()
}
