package watchers

// HasQuantities is hasQuantities.
var HasQuantities = hasQuantities

// Common is newCommon.
var Common = newCommon
