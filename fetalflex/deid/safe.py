"""Attributes and words that are known to be safe: what Table E.1-1 does not name is kept only if it stands here.

An allow-list, so that an attribute that nobody thought of is removed. Only measurements and technique: no attribute
here may hold free text, and coded strings are kept only where every value is one of `WORDS`.
Source: DICOM PS3.3 A.6, A.7, A.8, A.35, A.51 and the modules named below; terms from C.7 and C.8.5.6.1.1.
"""


def names(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


# C.7.6.3 Image Pixel, C.11 VOI and modality, C.7.6.5 Cine, C.7.6.6 Multi-frame
_IMAGE = """
SpecificCharacterSet ImageType InstanceNumber SeriesNumber AcquisitionNumber ImagesInAcquisition Modality
ConversionType Laterality ImageLaterality PatientOrientation SamplesPerPixel PhotometricInterpretation
PlanarConfiguration NumberOfFrames FrameIncrementPointer Rows Columns PixelAspectRatio BitsAllocated BitsStored
HighBit PixelRepresentation SmallestImagePixelValue LargestImagePixelValue SmallestPixelValueInSeries
LargestPixelValueInSeries PixelPaddingValue
RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor BluePaletteColorLookupTableDescriptor
RedPaletteColorLookupTableData GreenPaletteColorLookupTableData BluePaletteColorLookupTableData
SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData
SegmentedBluePaletteColorLookupTableData PixelData
WindowCenter WindowWidth VOILUTFunction RescaleIntercept RescaleSlope PresentationLUTShape LossyImageCompression
LossyImageCompressionRatio LossyImageCompressionMethod BurnedInAnnotation QualityControlImage
PixelSpacing NominalScannedPixelSpacing ImagerPixelSpacing PixelSpacingCalibrationType SpatialResolution
FrameTime FrameTimeVector FrameDelay StartTrim StopTrim RecommendedDisplayFrameRate CineRate ActualFrameDuration
EffectiveDuration PreferredPlaybackSequencing ImageTriggerDelay TriggerTime RepresentativeFrameNumber
"""
# C.8.5.5 US Region Calibration, C.8.5.6 US Image
_ULTRASOUND = """
SequenceOfUltrasoundRegions RegionSpatialFormat RegionDataType RegionFlags RegionLocationMinX0 RegionLocationMinY0
RegionLocationMaxX1 RegionLocationMaxY1 PhysicalUnitsXDirection PhysicalUnitsYDirection PhysicalDeltaX PhysicalDeltaY
ReferencePixelX0 ReferencePixelY0 ReferencePixelPhysicalValueX ReferencePixelPhysicalValueY TransducerFrequency
PulseRepetitionFrequency DopplerCorrectionAngle SteeringAngle DopplerSampleVolumeXPosition
DopplerSampleVolumeYPosition DopplerSampleVolumeXPositionRetired DopplerSampleVolumeYPositionRetired TMLinePositionX0
TMLinePositionY0 TMLinePositionX1 TMLinePositionY1 PixelComponentOrganization PixelComponentMask
PixelComponentRangeStart PixelComponentRangeStop PixelComponentPhysicalUnits PixelComponentDataType
NumberOfTableBreakPoints TableOfXBreakPoints TableOfYBreakPoints TransducerType FocusDepth DepthOfScanField
MechanicalIndex BoneThermalIndex CranialThermalIndex SoftTissueThermalIndex SoftTissueFocusThermalIndex
SoftTissueSurfaceThermalIndex UltrasoundColorDataPresent NumberOfStages StageNumber NumberOfViewsInStage ViewNumber
NumberOfEventTimers EventElapsedTimes HeartRate NominalInterval LowRRValue HighRRValue RWaveTimeVector
BeatRejectionFlag IVUSAcquisition IVUSPullbackRate
AcquisitionDuration Sensitivity DepthsOfFocus
"""
# C.8.20 Segmentation, C.7.6.16 and C.7.6.17 functional groups and dimensions
_SEGMENTATION = """
SegmentationType SegmentationFractionalType MaximumFractionalValue SegmentsOverlap ContentLabel SegmentSequence
SegmentNumber SegmentAlgorithmType RecommendedDisplayCIELabValue RecommendedDisplayGrayscaleValue
SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence DerivationImageSequence FrameContentSequence
DimensionIndexValues SegmentIdentificationSequence ReferencedSegmentNumber PixelMeasuresSequence SliceThickness
SpacingBetweenSlices PlanePositionSequence ImagePositionPatient PlaneOrientationSequence ImageOrientationPatient
DimensionOrganizationSequence DimensionIndexSequence DimensionIndexPointer FunctionalGroupPointer
DimensionOrganizationType InStackPositionNumber StackID SpatialLocationsPreserved
"""
# C.17 Structured reports, and C.12.1.2 references between instances
_REFERENCES = """
SOPClassUID ReferencedSOPClassUID ReferencedFrameNumber ReferencedSeriesSequence ReferencedInstanceSequence
ReferencedSOPSequence CurrentRequestedProcedureEvidenceSequence PertinentOtherEvidenceSequence
StudiesContainingOtherReferencedInstancesSequence CompletionFlag VerificationFlag PreliminaryFlag
ValueType ContinuityOfContent ContentTemplateSequence MappingResource
TemplateIdentifier
"""
KEPT = names(f"{_IMAGE} {_ULTRASOUND} {_SEGMENTATION} {_REFERENCES}")

# Free text that a class asks for (Type 2) and the table does not name: emptied instead of removed.
EMPTIED = names("ContentDescription PositionReferenceIndicator")

# Sequences of codes: an item stays where its code is one of a published vocabulary (`codes.known_code`).
CODES = names(
    """
AnatomicRegionSequence AnatomicRegionModifierSequence PrimaryAnatomicStructureSequence
PrimaryAnatomicStructureModifierSequence ViewCodeSequence ViewModifierCodeSequence StageCodeSequence
SegmentedPropertyCategoryCodeSequence SegmentedPropertyTypeCodeSequence SegmentedPropertyTypeModifierCodeSequence
PurposeOfReferenceCodeSequence DerivationCodeSequence ConceptNameCodeSequence ConceptCodeSequence
MeasurementUnitsCodeSequence PerformedProcedureCodeSequence ProcedureCodeSequence NumericValueQualifierCodeSequence
SeriesDescriptionCodeSequence
"""
)

# Every value that a kept coded string (CS) may have.
WORDS = names(
    """
US OT SEG SR ORIGINAL DERIVED PRIMARY SECONDARY YES NO 00 01 R L U B
A P H F AR AL PR PL HR HL FR FL AH AF PH PF RH RF LH LF LA LP RA RP
MONOCHROME1 MONOCHROME2 RGB YBR_FULL YBR_FULL_422 YBR_RCT YBR_ICT YBR_PARTIAL_420 YBR_PARTIAL_422
ISO_10918_1 ISO_14495_1 ISO_15444_1 ISO_15444_15 ISO_13818_2 ISO_14496_10 LINEAR LINEAR_EXACT SIGMOID
IDENTITY INVERSE GEOMETRY FIDUCIAL DV DI DF WSD SD SI DRW SYN
ABDOMINAL BREAST CHEST ENDOCAVITARY ENDORECTAL ENDOVAGINAL EPICARDIAC GYNECOLOGY INTRACARDIAC INTRAOPERATIVE
INTRAVASCULAR MUSCULOSKELETAL OBSTETRICAL OPHTHALMIC PEDIATRIC PELVIC RETROPERITONEAL SCROTAL TEE THYROID
TRANSCRANIAL TTE VASCULAR
SECTOR_PHASED SECTOR_MECH SECTOR_ANNULAR LINEAR CURVED_LINEAR SINGLE_CRYSTAL SPLIT_XTAL_CWD IV_PHASED
IV_ROT_XTAL IV_ROT_MIRROR ENDOCAV_PA ENDOCAV_MECH ENDOCAV_CLA ENDOCAV_AA ENDOCAV_LINEAR VECTOR_PHASED
MOTOR_DRIVEN GATED BINARY FRACTIONAL LABELMAP PROBABILITY OCCUPANCY MANUAL SEMIAUTOMATIC AUTOMATIC ANATOMY
SEGMENTATION UNDEFINED 3D 3D_TEMPORAL TILED_FULL REORIENTED_ONLY COMPLETE PARTIAL VERIFIED UNVERIFIED FINAL
PRELIMINARY CONTAINER CODE NUM SCOORD IMAGE UIDREF NUMERIC SEPARATE CONTINUOUS DCMR 1500 1410 1501 300 320 5000 5001
CONTAINS HAS PROPERTIES INFERRED SELECTED FROM POLYLINE ELLIPSE POINT MULTIPOINT CIRCLE VOLUME FRAME NONE
"""
) | frozenset(
    # terms of two words, character sets, and the modes of C.8.5.6.1.1 (value 4) as four hexadecimal digits
    ["ISO_IR 6", "ISO_IR 100", "ISO_IR 101", "ISO_IR 109", "ISO_IR 110", "ISO_IR 144", "ISO_IR 126", "ISO_IR 127",
       "ISO_IR 138", "ISO_IR 148", "ISO_IR 192", "GB18030", "GBK"]
    + ["PALETTE COLOR", "FETAL HEAD", "NEONATAL HEAD", "SMALL PARTS", "US BIOPSY", "HAS OBS CONTEXT", "HAS CONCEPT MOD",
       "HAS ACQ CONTEXT", "INFERRED FROM", "SELECTED FROM", "HAS PROPERTIES"]
    + [f"{bits:04X}" for bits in range(0x800)]
)  # fmt: skip

# What a standard class asks for, of the attributes that Table E.1-1 names and that a device writes: 1 must have a
# value, 2 must be there. Conditional types count as their plain ones. Tests hold this against highdicom's tables.
TYPE_2 = names(
    """
PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber
ContentDate ContentTime
"""
)
TYPE_1 = names("SOPInstanceUID SeriesInstanceUID StudyInstanceUID")
ANNOTATION_TYPE_1 = names("ContentDate ContentTime DeviceSerialNumber")
REPORT_TYPE_2 = names("ReferencedPerformedProcedureStepSequence PerformedProcedureCodeSequence")
